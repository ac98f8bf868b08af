//! `posthouse nodes add-key`

use std::io::{self, Read};

use base::HostName;
use clap::Args;
use cluster::identity::{PublicKey, PublicKeyError};

use crate::{
    api::AddNodeRequest,
    commands::ask::Ask,
    failure::Failure,
    output::{self, Form},
};

/// Let a node in by its key, under a name
///
/// `posthouse identity show` prints the key on that node; it may be pasted with or without quotes. The node is let in as soon as
/// it dials; nothing has to be restarted.
#[derive(Debug, Args)]
pub(in crate::commands) struct AddKey {
    /// The node's public key; `-` reads it from standard input
    #[arg(value_name = "KEY", required = true, num_args = 1..)]
    key: Vec<String>,
    /// What the node is to be called
    #[arg(long, value_name = "NAME")]
    name: HostName,
    #[command(flatten)]
    ask: Ask,
}

/// Longer than any line with a key.
const MAX_KEY: u64 = 64 << 10;

impl AddKey {
    pub(in crate::commands) fn run(self) -> Result<(), Failure> {
        let mut text = self.key.join(" ");
        if text == "-" {
            text.clear();
            io::stdin().lock().take(MAX_KEY).read_to_string(&mut text)?;
        }
        let key = parse(&text).map_err(Failure::usage)?;
        let request = AddNodeRequest { key: key.to_string(), name: self.name };
        self.ask.run(async |client| {
            let node = client.add_node(&request).await?;
            Ok(match self.ask.form() {
                Form::Json => output::json(&node),
                Form::Text => format!("{} ({}) is let in from now on.\n", node.name, node.fingerprint),
            })
        })
    }
}

/// The key of a line, also where it was taken with its label.
fn parse(text: &str) -> Result<PublicKey, PublicKeyError> {
    let text = text.trim_start();
    text.strip_prefix("key ").unwrap_or(text).parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_with_its_label_and_its_comment() {
        let key = PublicKey::from_bytes([7; 32]);
        for line in [format!("{key}"), format!("key          {key} mx2\n")] {
            assert_eq!(parse(&line), Ok(key), "{line}");
        }
        assert_eq!(parse("key"), Err(PublicKeyError::Other));
        assert_eq!(parse(&key.fingerprint()), Err(PublicKeyError::Fingerprint));
    }
}
