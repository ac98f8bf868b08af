//! Which mail a pause holds back, and when. Pure; it is told the time.

use base::Timestamp;
use smtp::ReversePath;
use store::settings::{About, Pause};

/// Whether a pause holds at this time.
pub(crate) fn is_on(pause: &Pause, now: Timestamp) -> bool {
    pause.until.is_none_or(|until| until > now)
}

/// Whether a pause is about mail of an account to a domain. What is about senders is asked by [`holds_sender`]: they stand in
/// the words of a message, which dispatch does not read.
pub(crate) fn holds(pause: &Pause, domain: &str, account: &str) -> bool {
    match &pause.about {
        About::All => true,
        About::Domain(pattern) => pattern.matches(domain),
        About::Account(name) => name == account,
        About::Sender(_) => false,
    }
}

/// Whether a pause is about mail from a sender.
pub(crate) fn holds_sender(pause: &Pause, sender: &ReversePath) -> bool {
    matches!(&pause.about, About::Sender(pattern) if pattern.matches(sender.as_str()))
}

#[cfg(test)]
mod tests {
    use store::settings::PauseId;

    use super::*;

    fn pause(about: About) -> Pause {
        let at = Timestamp::from_millis;
        Pause {
            id: PauseId(1),
            about,
            until: Some(at(10)),
            why: String::new(),
            by: String::new(),
            since: at(1),
        }
    }

    #[test]
    fn a_pause_is_about_what_it_names_until_it_ends() {
        assert!(holds(&pause(About::All), "example.com", "a"));
        let domain = pause(About::Domain("*.example.com".parse().unwrap()));
        assert!(holds(&domain, "mx.example.com", "a") && !holds(&domain, "example.org", "a"));
        let account = pause(About::Account("192.0.2.7".into()));
        assert!(holds(&account, "example.com", "192.0.2.7") && !holds(&account, "example.com", "192.0.2.8"));
        let at = Timestamp::from_millis;
        assert!(is_on(&account, at(9)) && !is_on(&account, at(10)));
    }

    #[test]
    fn senders_are_known_by_their_addresses() {
        let sender = |pattern: &str| pause(About::Sender(pattern.parse().unwrap()));
        let anna: ReversePath = "anna@news.example.com".to_owned().try_into().unwrap();
        assert!(holds_sender(&sender("Anna@news.example.com"), &anna));
        assert!(holds_sender(&sender("*@*.example.com"), &anna));
        assert!(!holds_sender(&sender("*@example.com"), &anna));
        assert!(holds_sender(&sender("<>"), &ReversePath::Null));
        assert!(!holds(&sender("*"), "example.com", "a"));
    }
}
