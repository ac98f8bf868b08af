//! Sending a message over the control socket.

use base::MessageId;
use serde::{Deserialize, Serialize};

/// The envelope of a message to send; the message itself is the body of the request.
///
/// On the wire it is the query `from=…&to=…&to=…`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendRequest {
    /// The sender; empty for the null sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
}

/// The message is in the queue, and on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendAnswer {
    /// Its id.
    pub id: MessageId,
    /// How many recipients were accepted.
    pub recipients: u64,
}

impl SendRequest {
    pub(crate) fn to_pairs(&self) -> Vec<(&str, &str)> {
        let to = self.to.iter().map(|to| ("to", to.as_str()));
        std::iter::once(("from", self.from.as_str())).chain(to).collect()
    }

    pub(crate) fn from_pairs(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut request = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "from" => request.from = value,
                "to" => request.to.push(value),
                _ => return Err(format!("there is no parameter \"{name}\": give from and to")),
            }
        }
        if request.to.is_empty() {
            return Err("a message needs a recipient: give to=ADDRESS, once or more".into());
        }
        Ok(request)
    }
}
