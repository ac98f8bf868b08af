//! Sending a message over the control socket.

use base::{HumanDuration, MessageId, RetryPlan};
use serde::{Deserialize, Serialize};

use super::Moment;

/// The envelope of a message to send, and how it is to be handled; the message itself is the body of the request.
///
/// On the wire it is the query `from=…&to=…&to=…`, with `at`, `priority`, `expire` and `retry` (waits, with commas) where they are
/// not as usual.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendRequest {
    /// The sender; empty for the null sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// When it may go at the earliest.
    pub at: Option<Moment>,
    /// Before or behind others, from -9 to 9.
    pub priority: i8,
    /// How long it is tried, from when it may go.
    pub expire: Option<HumanDuration>,
    /// How long to wait between attempts.
    pub retry: Option<RetryPlan>,
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
    pub(crate) fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("from", self.from.clone())];
        pairs.extend(self.to.iter().map(|to| ("to", to.clone())));
        pairs.extend(self.at.map(|at| ("at", at.to_string())));
        pairs.extend((self.priority != 0).then(|| ("priority", self.priority.to_string())));
        pairs.extend(self.expire.map(|expire| ("expire", expire.to_string())));
        pairs.extend(self.retry.clone().map(|plan| {
            let waits: Vec<String> = Vec::from(plan).iter().map(ToString::to_string).collect();
            ("retry", waits.join(","))
        }));
        pairs
    }

    pub(crate) fn from_pairs(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut request = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "from" => request.from = value,
                "to" => request.to.push(value),
                "at" => request.at = Some(value.parse()?),
                "priority" => request.priority = priority(&value)?,
                "expire" => request.expire = Some(value.parse()?),
                "retry" => request.retry = Some(plan(&value)?),
                _ => {
                    return Err(format!(
                        "there is no parameter \"{name}\": give from and to, and at, priority, expire or retry"
                    ));
                }
            }
        }
        if request.to.is_empty() {
            return Err("a message needs a recipient: give to=ADDRESS, once or more".into());
        }
        Ok(request)
    }
}

/// A priority from -9 to 9 (RFC 6710, section 4.1).
pub(crate) fn priority(text: &str) -> Result<i8, String> {
    let number = text.parse().ok().filter(|number| (-9..=9).contains(number));
    number.ok_or_else(|| format!("\"{text}\" is not a priority: write a number from -9 to 9"))
}

/// A retry plan of waits with commas between them.
pub(crate) fn plan(text: &str) -> Result<RetryPlan, String> {
    let waits = text.split(',').map(|wait| wait.trim().parse()).collect::<Result<Vec<HumanDuration>, _>>()?;
    crate::config::bounds::plan(waits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_its_query() {
        let request = SendRequest {
            from: "a+b&c@example.com".into(),
            to: vec!["x@example.net".into(), "y@example.net".into()],
            at: Some("2026-11-20T08:30:00Z".parse().unwrap()),
            priority: -3,
            expire: Some("4h 30m".parse().unwrap()),
            retry: Some(plan("1m,5m").unwrap()),
        };
        let pairs = request.to_pairs().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(SendRequest::from_pairs(pairs), Ok(request));
        assert!(priority("10").is_err() && plan("1us").is_err() && plan("").is_err());
    }
}
