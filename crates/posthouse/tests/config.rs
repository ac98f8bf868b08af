//! The configuration file: what is wrong is named with its line and the right form.

use std::path::Path;

use posthouse::config::{Config, KEYS, LogFormat, LogLevel};

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/posthouse.toml"), text).map_err(|e| e.to_string())
}

fn wrong(text: &str) -> String {
    parse(text).expect_err("it is wrong")
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("").unwrap().smtp.listen[0].to_string(), "127.0.0.1:2525");
}

#[test]
fn an_unknown_key_names_file_line_and_the_nearest_key() {
    assert_eq!(
        wrong("name = 'mx1'\n\n[smtp]\nlisen = ['127.0.0.1:2525']\n"),
        "/etc/posthouse.toml:4: there is no key \"smtp.lisen\"; did you mean \"smtp.listen\"?"
    );
    assert_eq!(wrong("[smpt]"), "/etc/posthouse.toml:1: there is no key \"smpt\"; did you mean \"smtp\"?");
    assert_eq!(
        wrong("[stop]\ngrace = '1s'\nsmarthost = 'mail.example.com:25'"),
        "/etc/posthouse.toml:3: there is no key \"stop.smarthost\"; did you mean \"delivery.smarthost\"?"
    );
    assert_eq!(wrong("xxxxxxxxxxxxxxxx = 1"), "/etc/posthouse.toml:1: there is no key \"xxxxxxxxxxxxxxxx\"");
    assert_eq!(
        wrong("[[delivery.route]]\ndomain = 'a.example'\nnext_hop = 'b:25'"),
        "/etc/posthouse.toml:3: there is no key \"delivery.route.next_hop\"; \
         did you mean \"delivery.route.next-hop\"?"
    );
}

#[test]
fn a_bad_value_names_its_key_and_what_is_right() {
    assert_eq!(
        wrong("\nsmtp.listen = ['127.0.0.1:25', '127.0.0.1']"),
        "/etc/posthouse.toml:2: smtp.listen: \"127.0.0.1\" has no port; write 127.0.0.1:2525"
    );
    for (text, start) in [
        ("[delivery]\nsmarthost = 'mail'", "2: delivery.smarthost: \"mail\" has no port; write mail:25"),
        (
            "[relay]\nfrom = ['10.0.0.1/8']",
            "2: relay.from: \"10.0.0.1/8\" is an address in a network: write 10.0.0.0/8",
        ),
        ("[limits]\nmessage = '50 MB'", "2: limits.message: \"50 MB\" is not a size"),
        ("[limits]\n\nrecipients = 0", "3: limits.recipients: 0 is not a count: write a whole number from 1"),
        ("delivery.timeout.dot = 'long'", "1: delivery.timeout.dot: \"long\" is not a duration"),
        ("[delivery]\nretry = []", "2: delivery.retry: a retry plan needs at least one wait"),
        (
            "[[delivery.route]]\ndomain = 'a.example'\nnext-hop = 'b'",
            "3: delivery.route.next-hop: \"b\" has no port",
        ),
        ("[[delivery.route]]\ndomain = 'a.example'", "1: delivery.route: missing field `next-hop`"),
        ("log.level = 'loud'", "1: log.level: unknown variant `loud`, expected one of `error`, `warn`"),
        ("name = 5", "1: name: invalid type: integer `5`, expected a string"),
        ("smtp = 5", "1: smtp: invalid type: integer `5`"),
        ("name = ", "1: "),
        ("name = 'a'\nname = 'b'", "2: "),
    ] {
        let error = wrong(text);
        assert!(error.starts_with(&format!("/etc/posthouse.toml:{start}")), "{text}\n{error}\n{start}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn every_key_of_the_configuration_is_a_known_key_and_the_reverse() {
    let mut config = parse(
        "data-dir = '/var/lib/posthouse'
        delivery.smarthost = 'mail.example.com:25'
        [[delivery.route]]
        domain = '*.example.com'
        next-hop = '[::1]:25'",
    )
    .unwrap();
    (config.log.level, config.log.format) = (LogLevel::Debug, LogFormat::Json);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(parse(&text).unwrap(), config);

    let mut found = Vec::new();
    keys("", &toml::Value::Table(text.parse().unwrap()), &mut found);
    let mut known = KEYS.map(String::from).to_vec();
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

fn keys(at: &str, value: &toml::Value, found: &mut Vec<String>) {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        toml::Value::Table(table) => table.iter().for_each(|(name, value)| keys(&below(name), value, found)),
        toml::Value::Array(values) if values.iter().any(toml::Value::is_table) => {
            values.iter().for_each(|value| keys(at, value, found));
        }
        _ => found.push(at.to_owned()),
    }
}
