//! How a node stands, in a word or two.

use std::time::Duration;

use crate::{
    api::{NodeEntry, Presence, Readiness, Wanted},
    output,
};

/// What is wanted of a node, and what of it cannot be now: `cordoned`, `draining (12 works left), suspect 7s`.
pub(in crate::commands) fn state(node: &NodeEntry) -> String {
    let left = node.left();
    let wish = match node.wanted {
        Wanted::Active => None,
        Wanted::Cordoned => Some("cordoned".to_owned()),
        Wanted::Draining if left == 0 => Some("drained".to_owned()),
        Wanted::Draining => Some(format!("draining ({} left)", output::count(left, "work"))),
        // Whether it is there does not count: it is not let in.
        Wanted::Quarantined => return "quarantined".to_owned(),
        Wanted::Removed => return "removed".to_owned(),
    };
    let silent = output::duration(Duration::from_secs(node.heard_seconds.unwrap_or(0)));
    let trouble = match node.presence {
        Presence::Alive if node.linked => None,
        Presence::Alive => Some("no link".to_owned()),
        Presence::Never => Some("never seen".to_owned()),
        Presence::Away => Some("away".to_owned()),
        Presence::Expected => Some("expected".to_owned()),
        Presence::Suspect => Some(format!("suspect {silent}")),
        Presence::Gone => Some(format!("gone {silent}")),
        Presence::Returning => Some("returning".to_owned()),
    };
    match (wish, trouble) {
        (None, None) => "active".to_owned(),
        (Some(word), None) | (None, Some(word)) => word,
        (Some(wish), Some(trouble)) => format!("{wish}, {trouble}"),
    }
}

/// How long ago a node was heard.
pub(super) fn heard(node: &NodeEntry) -> String {
    node.heard_seconds.map_or_else(
        || "-".into(),
        |seconds| format!("{} ago", output::duration(Duration::from_secs(seconds))),
    )
}

/// A text, or what stands for none.
pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// How a node stands that speaks for itself.
pub(in crate::commands) fn readiness(readiness: &Readiness) -> &'static str {
    match readiness {
        Readiness::Ready => "active",
        Readiness::NotReady(_) => "not ready",
    }
}

/// A node that is well and has nothing to do.
#[cfg(test)]
pub(super) fn example(name: &str) -> NodeEntry {
    NodeEntry {
        name: name.into(),
        key: "ssh-ed25519 AAAA".into(),
        fingerprint: "SHA256:abc".into(),
        wanted: Wanted::Active,
        why: String::new(),
        presence: Presence::Alive,
        heard_seconds: Some(1),
        linked: true,
        added: crate::api::Moment(base::Timestamp::from_millis(1_795_000_000_000)),
        connected: Some(crate::api::Moment(base::Timestamp::from_millis(1_795_000_060_000))),
        version: "0.1.0".into(),
        ehlo: format!("{name}.example.com"),
        doors: vec!["192.0.2.2:25".into(), "[2001:db8::2]:25".into()],
        works: 0,
        bytes: 0,
        held: 0,
        brought: 4100,
        granted: 3900,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_what_is_wanted_and_what_is_wrong() {
        for (wanted, presence, left, word) in [
            (Wanted::Active, Presence::Alive, 3, "active"),
            (Wanted::Active, Presence::Suspect, 3, "suspect 2m 7s"),
            (Wanted::Active, Presence::Gone, 0, "gone 2m 7s"),
            (Wanted::Active, Presence::Never, 0, "never seen"),
            (Wanted::Active, Presence::Away, 0, "away"),
            (Wanted::Active, Presence::Expected, 3, "expected"),
            (Wanted::Active, Presence::Returning, 0, "returning"),
            (Wanted::Cordoned, Presence::Alive, 3, "cordoned"),
            (Wanted::Cordoned, Presence::Never, 0, "cordoned, never seen"),
            (Wanted::Draining, Presence::Alive, 1, "draining (1 work left)"),
            (Wanted::Draining, Presence::Suspect, 12, "draining (12 works left), suspect 2m 7s"),
            (Wanted::Draining, Presence::Alive, 0, "drained"),
            (Wanted::Quarantined, Presence::Gone, 3, "quarantined"),
        ] {
            let node = NodeEntry { wanted, presence, heard_seconds: Some(127), held: left, ..example("mx2") };
            assert_eq!(state(&node), word);
        }
        assert_eq!(state(&NodeEntry { linked: false, ..example("mx2") }), "no link");
    }
}
