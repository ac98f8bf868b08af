//! `posthouse backup`

use std::{
    io::{self, Read},
    path::PathBuf,
    time::Instant,
};

use base::ByteSize;
use bytes::{Buf, Bytes};
use clap::Args;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use indicatif::ProgressBar;
use tokio::runtime::Runtime;

use super::ask::Ask;
use crate::{
    backup::{BackupError, Manifest, into_file, into_folder},
    failure::Failure,
    output::{self, Form},
};

/// Copy all that a running node keeps, as it stands at one moment, into a new file or folder
///
/// Spool, message log, settings, identity and configuration, with a checksum of each file. Mail goes on meanwhile; all that was
/// answered before the moment is in the copy. `posthouse restore` makes a data directory of it. Give it to nobody who may not
/// read the mail.
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// A new file whose name ends in .tar, or a new or empty folder
    #[arg(value_name = "TO")]
    to: PathBuf,
    #[command(flatten)]
    ask: Ask,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), Failure> {
        let began = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (expected, body) = runtime.block_on(self.ask.client()?.backup())?;
        let bar = super::progress(expected, "copied");
        let archive = Archive { runtime: &runtime, body, chunk: Bytes::new(), bar: bar.clone() };
        let is_file = self.to.extension().is_some_and(|kind| kind == "tar");
        let manifest = if is_file { into_file(archive, &self.to) } else { into_folder(archive, &self.to) };
        bar.finish_and_clear();
        let manifest = manifest?;
        let shown = match self.ask.form() {
            Form::Json => output::json(&manifest),
            Form::Text => self.text(&manifest, began),
        };
        Ok(output::print(&shown)?)
    }

    fn text(&self, manifest: &Manifest, began: Instant) -> String {
        let bytes = manifest.files.iter().map(|entry| entry.bytes).sum::<u64>();
        format!(
            "{} holds {} as of {} UTC: {} in {} files, written in {}.\n",
            self.to.display(),
            manifest.node,
            output::time(manifest.taken),
            ByteSize::kib(bytes.div_ceil(1 << 10)),
            manifest.files.len(),
            output::duration(began.elapsed())
        )
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let failure = Self::world(&error);
        match error {
            BackupError::InTheWay { .. } => failure.hint("name a new one, or one that is empty"),
            BackupError::Io { .. } | BackupError::NotWhole { .. } | BackupError::Newer { .. } => failure,
        }
    }
}

/// What the node sends, read by one who waits.
struct Archive<'r> {
    runtime: &'r Runtime,
    body: Incoming,
    chunk: Bytes,
    bar: ProgressBar,
}

impl Read for Archive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while !self.chunk.has_remaining() {
            match self.runtime.block_on(self.body.frame()) {
                None => return Ok(0),
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(_)) => {
                    return Err(io::Error::other(
                        "the node could not finish it; its lines on standard error say why",
                    ));
                }
            }
        }
        let len = buffer.len().min(self.chunk.len());
        self.chunk.split_to(len).copy_to_slice(&mut buffer[..len]);
        self.bar.inc(len as u64);
        Ok(len)
    }
}
