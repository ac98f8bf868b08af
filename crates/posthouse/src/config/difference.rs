//! What differs between two configurations, key by key.

use toml::{Table, Value};

use super::{Config, keys};

/// A key that has another value than before.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its path.
    pub key: String,
    /// The former value as the file has it; nothing: none.
    pub old: Option<String>,
    /// The new one.
    pub new: Option<String>,
    /// When it counts.
    pub counts: Counts,
}

/// When a new value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// At once.
    AtOnce,
    /// After the node was stopped and started again.
    AfterRestart,
}

/// Keys whose value is fixed while a node runs: where its data is and how it is cut, how it is called in records, and the
/// form of its lines, whose readers would not follow; and all about the node among others.
const FIXED: [&str; 4] = ["data-dir", "name", "spool.segment", "log.format"];

impl Config {
    /// The keys that have another value in `new`, in the order of their names.
    #[must_use]
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let table = |config| Table::try_from(config).expect("a configuration is made of what TOML has");
        let mut found = Vec::new();
        compare("", &table(self), &table(new), &mut found);
        found
    }
}

fn compare(at: &str, old: &Table, new: &Table, found: &mut Vec<Difference>) {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let key = keys::below(at, name);
        match (old.get(name), new.get(name)) {
            (Some(Value::Table(old)), Some(Value::Table(new))) => compare(&key, old, new, found),
            (old, new) if old != new => {
                let text = |value: Option<&Value>| value.map(ToString::to_string);
                let fixed = FIXED.contains(&&*key) || key.starts_with("cluster.");
                let counts = if fixed { Counts::AfterRestart } else { Counts::AtOnce };
                found.push(Difference { old: text(old), new: text(new), key, counts });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_difference_names_its_key_and_both_values() {
        let parse = |text: &str| Config::parse(Path::new("posthouse.toml"), text).unwrap();
        let old = parse("delivery.expire = '2d'\nsmtp.listen = ['127.0.0.1:25']\n");
        let new = parse(
            "delivery.expire = '2d'\nspool.segment = '4MiB'\nsmtp.listen = ['127.0.0.1:25', '127.0.0.1:26']\n
            [[delivery.route]]\ndomain = 'example.com'\nnext-hop = 'a:25'\n",
        );
        let found = old.differences(&new);
        let keys: Vec<&str> = found.iter().map(|difference| difference.key.as_str()).collect();
        assert_eq!(keys, ["delivery.route", "smtp.listen", "spool.segment"]);
        assert_eq!(found[0].old.as_deref(), Some("[]"));
        assert!(found[0].new.as_ref().unwrap().contains("next-hop = \"a:25\""), "{found:?}");
        assert_eq!(found[1].new.as_deref(), Some("[\"127.0.0.1:25\", \"127.0.0.1:26\"]"));
        assert_eq!((found[1].counts, found[2].counts), (Counts::AtOnce, Counts::AfterRestart));
        assert_eq!(new.differences(&new), []);
        let given = Config { data_dir: Some("/d".into()), ..old.clone() };
        assert_eq!((&old.differences(&given)[0].old, old.differences(&given).len()), (&None, 1));
    }

    #[test]
    fn every_fixed_key_is_a_key() {
        assert!(FIXED.iter().all(|key| keys::KEYS.contains(key)));
    }
}
