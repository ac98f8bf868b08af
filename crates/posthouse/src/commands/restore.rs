//! `posthouse restore`

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{
    backup::{self, BackupError, CONFIGURATION, Manifest, restore},
    failure::Failure,
    output,
};

/// Make a data directory of a backup
///
/// Every file is checked. The node that the backup is of must not run any more, here or elsewhere: both would deliver the same
/// mail. What it has delivered since the backup is delivered again.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup: a file or a folder that `posthouse backup` has written
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data directory to make; it must be empty, or not be there
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Print the backup's manifest as JSON
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self) -> Result<(), Failure> {
        let bar = super::progress(size(&self.from), "restored");
        let restored =
            restore(&backup::From::at(self.from.clone()), &self.data_dir, &mut |bytes| bar.inc(bytes));
        bar.finish_and_clear();
        let manifest = restored.map_err(|error| match error {
            // It is untouched, and may be in use.
            BackupError::InTheWay { .. } => Failure::from(error),
            _ => {
                let hint = format!(
                    "what was written to {} so far is no data directory: empty it before you try again",
                    self.data_dir.display()
                );
                Failure::from(error).hint(hint)
            }
        })?;
        let shown = if self.json { output::json(&manifest) } else { self.text(&manifest) };
        Ok(output::print(&shown)?)
    }

    fn text(&self, manifest: &Manifest) -> String {
        let dir = self.data_dir.display();
        format!(
            "{dir} is {} as of {} UTC.\n\
             Make sure that the former node does not run any more: both would deliver the same mail.\n\
             Then start this one: posthouse up --data-dir {dir} --config {dir}/{CONFIGURATION}\n",
            manifest.node,
            output::time(manifest.taken),
        )
    }
}

/// About how many bytes a backup has.
fn size(path: &Path) -> u64 {
    let below = std::fs::read_dir(path).into_iter().flatten().flatten();
    match path.is_dir() {
        true => below.map(|entry| size(&entry.path())).sum(),
        false => std::fs::metadata(path).map_or(0, |file| file.len()),
    }
}
