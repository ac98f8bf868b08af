//! The shapes of values: a text, a number, a list or a table, as the model of all keys has them.

use std::{path::PathBuf, time::Duration};

use base::{ByteSize, HumanDuration, RetryPlan};
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{Config, Count, Destination, TlsMode, keys};

/// A value that has another shape than its key takes.
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) key: String,
    /// Where the value stands.
    pub(super) at: usize,
    /// What to write instead.
    pub(super) message: String,
}

/// The first value of the file that has another shape than its key takes.
pub(super) fn misfit(text: &str, document: &DeTable<'_>) -> Option<Misfit> {
    let model = Table::try_from(model()).expect("a configuration is made of what TOML has");
    in_table(text, document, &model, "")
}

/// A configuration in which every key has a value.
fn model() -> Config {
    let example = "the examples are right";
    let mut config = Config { data_dir: Some(PathBuf::from("/var/lib/posthouse")), ..Config::default() };
    config.name = "mx1".parse().expect(example);
    config.smtp.hostname = "mx1.example.com".parse().expect(example);
    config.relay.to = vec!["example.com".parse().expect(example)];
    config.dns.servers = vec!["127.0.0.1:53".parse().expect(example)];
    config.delivery.tls.roots = Some(PathBuf::from("/etc/ssl/certs/ca-certificates.crt"));
    config.delivery.smarthost = Some("mail.example.com:25".parse().expect(example));
    config.delivery.route = vec!["example.com=mail.example.com:25".parse().expect(example)];
    config.delivery.destination = vec![Destination {
        domain: Some("example.com".parse().expect(example)),
        mx: Some("*.example.net".parse().expect(example)),
        connections: Some(Count::new(5)),
        connects_per_minute: Some(Count::new(60)),
        messages_per_minute: Some(Count::new(600)),
        bytes_per_minute: Some(ByteSize::mib(10)),
        messages_per_connection: Some(Count::new(100)),
        retry: Some(RetryPlan::default()),
        expire: Some(HumanDuration(Duration::from_secs(86_400))),
        delay_warning: Some(HumanDuration(Duration::from_secs(14_400))),
        tls: Some(TlsMode::default()),
    }];
    config.cluster.manager = Some("mx1.example.com:7025".parse().expect(example));
    config.cluster.pin = Some(format!("sha256:{}", "0".repeat(64)).parse().expect(example));
    config
}

fn in_table(text: &str, table: &DeTable<'_>, model: &Table, at: &str) -> Option<Misfit> {
    table.iter().find_map(|(name, value)| {
        let name = name.get_ref();
        let model = model.get(&**name)?;
        in_value(text, value, model, &keys::below(at, name))
    })
}

fn in_value(text: &str, value: &Spanned<DeValue<'_>>, model: &Value, key: &str) -> Option<Misfit> {
    match (value.get_ref(), model) {
        (DeValue::Table(table), Value::Table(model)) => in_table(text, table, model, key),
        (DeValue::Array(items), Value::Array(models)) => {
            items.iter().find_map(|item| match models.first()? {
                model if fits(item, model) => in_value(text, item, model, key),
                _ => Some(instead(text, item, model, key)),
            })
        }
        _ if fits(value, model) => None,
        _ => Some(instead(text, value, model, key)),
    }
}

fn fits(value: &Spanned<DeValue<'_>>, model: &Value) -> bool {
    value.get_ref().type_str() == model.type_str()
}

fn instead(text: &str, value: &Spanned<DeValue<'_>>, model: &Value, key: &str) -> Misfit {
    let found = match value.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    let message = match model {
        Value::Table(_) => format!("write a table, [{key}] with its keys below it, not {found}"),
        Value::Array(models) => match models.first() {
            Some(Value::Table(_)) => {
                format!("write tables, [[{key}]] with its keys below it for each, not {found}")
            }
            // What stands there is an item of the list that it should be.
            Some(item) if fits(value, item) => {
                format!("write a list: [{}]", text.get(value.span()).unwrap_or_default())
            }
            _ => format!("write a list of texts, such as {model}, not {found}"),
        },
        Value::String(_) => format!("write a text in quotes, such as {model}, not {found}"),
        _ => format!("write a whole number, such as {model}, not {found}"),
    };
    Misfit { key: key.to_owned(), at: value.span().start, message }
}
