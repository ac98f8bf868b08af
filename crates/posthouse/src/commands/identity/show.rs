//! `posthouse identity show`

use std::path::{Path, PathBuf};

use base::NodeId;
use clap::Args;
use cluster::{
    authority::Authority,
    identity::{Identity, KeyFileError},
};
use serde::Serialize;

use crate::{
    commands::plain,
    config::{Config, DEFAULT_FILE},
    failure::Failure,
    node::data::{DataDir, DataError, read_id},
    output::{self, Align, Table},
};

/// Show the key that the node proves itself with, and what its workers know a manager by
///
/// The key is for `posthouse nodes add-key` on the manager, the pin for `posthouse up --pin` on its workers. No node has to
/// run. A new data directory is made, with a key, as a first start would make it: run this as the user of the node.
#[derive(Debug, Args)]
pub(in crate::commands) struct Show {
    /// Print the public key alone
    #[arg(long, group = "what")]
    key: bool,
    /// Print the pin alone
    #[arg(long, group = "what")]
    pin: bool,
    /// The data directory of the node; without it, the one that the configuration or `up` takes
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration, for the node's name; by default /etc/posthouse/posthouse.toml, if it is there
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long, group = "what")]
    json: bool,
}

/// Who a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Who {
    node_id: NodeId,
    name: String,
    /// As OpenSSH writes it, with the name behind it.
    key: String,
    fingerprint: String,
    /// Of a manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
}

impl Show {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let default = Path::new(DEFAULT_FILE);
        let file = self.config.or_else(|| default.exists().then(|| default.to_owned()));
        let mut config = match &file {
            Some(file) => Config::read(file)?,
            None => Config::default(),
        };
        config.data_dir = self.data_dir.or(config.data_dir);
        let dir = config.data_dir()?;
        let who = read(&dir, config.name.as_str())?;
        let shown = match (self.key, self.pin, self.json) {
            (true, ..) => format!("{}\n", who.key),
            (_, true, _) => format!("{}\n", who.pin.ok_or_else(|| no_pin(&dir))?),
            (.., true) => output::json(&who),
            _ => plain(&text(&who)),
        };
        Ok(output::print(&shown)?)
    }
}

/// Reads who the node of a data directory is; what is missing is made.
fn read(dir: &Path, name: &str) -> Result<Who, Failure> {
    // Another process may have it: what is read is whole at any time.
    let found = read_id(dir).map_err(|error| unusable(&error))?.map(|id| Identity::read(dir, id));
    let identity = match found {
        None | Some(Err(KeyFileError::Missing { .. })) => {
            let data = DataDir::open(dir).map_err(in_use)?;
            Identity::open_or_make(dir, data.id())
        }
        Some(read) => read,
    };
    let identity = identity.map_err(|error| hinted(&error, error.hint()))?;
    let pin = Authority::pin_in(dir).map_err(|error| hinted(&error, error.hint()))?;
    let key = identity.public_key();
    Ok(Who {
        node_id: identity.id(),
        name: name.to_owned(),
        key: format!("{key} {name}"),
        fingerprint: key.fingerprint(),
        pin: pin.map(|pin| pin.to_string()),
    })
}

fn text(who: &Who) -> String {
    let mut table = Table::new([Align::Left, Align::Left]);
    table.row(["node id".into(), who.node_id.to_string()]);
    table.row(["key".into(), who.key.clone()]);
    table.row(["fingerprint".into(), who.fingerprint.clone()]);
    if let Some(pin) = &who.pin {
        table.row(["pin".into(), pin.clone()]);
    }
    table.text()
}

fn no_pin(dir: &Path) -> Failure {
    Failure::world(format!("there is no pin in {}: its node has not been a manager yet", dir.display()))
        .hint("a manager makes it at its first start, with `posthouse up --role manager`")
}

/// A directory without a key cannot be taken.
fn in_use(error: DataError) -> Failure {
    match error {
        DataError::Running { path } => Failure::world(format!(
            "the node that is running on {} stands alone and has no key yet",
            path.display()
        ))
        .hint("start it again as a manager or a worker; or stop it, and give this command once more"),
        error => unusable(&error),
    }
}

fn unusable(error: &DataError) -> Failure {
    hinted(error, error.hint())
}

fn hinted(error: &dyn std::fmt::Display, hint: Option<String>) -> Failure {
    let failure = Failure::world(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_can_be_read_while_another_process_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        let made = read(&dir, "mx2").unwrap();
        assert!(made.key.starts_with("ssh-ed25519 AAAA") && made.key.ends_with(" mx2"), "{made:?}");
        assert_eq!(made.pin, None);
        let _running = DataDir::open(&dir).unwrap();
        assert_eq!(read(&dir, "mx2").unwrap(), made);
    }

    #[test]
    fn a_node_that_runs_without_a_key_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let running = DataDir::open(folder.path()).unwrap();
        let failure = read(folder.path(), "mx2").unwrap_err();
        assert!(failure.error().contains("has no key yet"), "{failure}");
        let id = running.id();
        assert!(Identity::read(folder.path(), id).is_err());
        drop(running);
        assert_eq!(read(folder.path(), "mx2").unwrap().node_id, id);
    }

    #[test]
    fn the_text_has_a_pin_where_there_is_one() {
        let mut who = Who {
            node_id: NodeId::from_bytes([7; 16]),
            name: "mx1".into(),
            key: "ssh-ed25519 AAAA mx1".into(),
            fingerprint: "SHA256:abc".into(),
            pin: Some("sha256:00".into()),
        };
        assert_eq!(
            text(&who),
            "node id      07070707070707070707070707070707\n\
             key          ssh-ed25519 AAAA mx1\n\
             fingerprint  SHA256:abc\n\
             pin          sha256:00\n"
        );
        who.pin = None;
        assert!(!text(&who).contains("pin"));
    }
}
