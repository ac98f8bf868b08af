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
    assert_eq!(wrong("\"x\\n\\u001b\" = 1"), "/etc/posthouse.toml:1: there is no key \"x  \"");
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
        (
            "[limits]\n\nrecipients = 0",
            "3: limits.recipients: 0 is not possible: write a whole number from 1 to 4096",
        ),
        ("delivery.timeout.dot = 'long'", "1: delivery.timeout.dot: \"long\" is not a duration"),
        ("[delivery]\nretry = []", "2: delivery.retry: a retry plan needs at least one wait"),
        (
            "[[delivery.route]]\ndomain = 'a.example'\nnext-hop = 'b'",
            "3: delivery.route.next-hop: \"b\" has no port",
        ),
        ("[[delivery.route]]\ndomain = 'a.example'", "1: delivery.route: missing field `next-hop`"),
        (
            "log.level = 'debgu'",
            "1: log.level: \"debgu\" is not one of error, warn, info, debug, trace; did you mean \"debug\"?",
        ),
        (
            "[log]\nformat = 'jsno'",
            "2: log.format: \"jsno\" is not one of text, json; did you mean \"json\"?",
        ),
        (
            "smtp.hostname = 'mx_1'",
            "1: smtp.hostname: \"mx_1\" is not a host name: no \"_\" may be in it; write a hyphen instead",
        ),
        (
            "delivery.retry = ['1s', '99years']",
            "1: delivery.retry: a wait of 99years is not possible: the longest",
        ),
        ("name = ", "1: "),
        ("name = 'a'\nname = 'b'", "2: "),
    ] {
        let error = wrong(text);
        assert!(error.starts_with(&format!("/etc/posthouse.toml:{start}")), "{text}\n{error}\n{start}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_value_of_the_wrong_shape_is_told_the_right_one() {
    for (text, says) in [
        ("smtp.listen = '127.0.0.1:25'", "1: smtp.listen: write a list: ['127.0.0.1:25']"),
        ("[relay]\nto = \"a.example\"", "2: relay.to: write a list: [\"a.example\"]"),
        ("relay.to = [1]", "1: relay.to: write a list of texts, such as [\"example.com\"], not a number"),
        (
            "relay.from = true",
            "1: relay.from: write a list of texts, such as [\"127.0.0.0/8\", \"::1/128\"], not true or false",
        ),
        (
            "limits.message = 1000",
            "1: limits.message: write a text in quotes, such as \"50MiB\", not a number",
        ),
        ("limits.idle = 1.5", "1: limits.idle: write a text in quotes, such as \"5m\", not a fraction"),
        ("limits.idle = 00:05:00", "1: limits.idle: write a text in quotes, such as \"5m\", not a time"),
        ("limits.hops = '50'", "1: limits.hops: write a whole number, such as 50, not a text"),
        ("name = 5", "1: name: write a text in quotes, such as \"mx1\", not a number"),
        ("data-dir = []", "1: data-dir: write a text in quotes, such as \"/var/lib/posthouse\", not a list"),
        (
            "delivery.smarthost = 25",
            "1: delivery.smarthost: write a text in quotes, such as \"mail.example.com:25\", not a number",
        ),
        ("smtp = 5", "1: smtp: write a table, [smtp] with its keys below it, not a number"),
        ("name.first = 'mx1'", "1: name: write a text in quotes, such as \"mx1\", not a table"),
        (
            "delivery.route = 'a.example=b:25'",
            "1: delivery.route: write tables, [[delivery.route]] with its keys below it for each, not a text",
        ),
        (
            "[delivery.route]\ndomain = 'a.example'",
            "1: delivery.route: write tables, [[delivery.route]] with its keys below it for each, not a table",
        ),
        (
            "[[delivery.route]]\ndomain = 'a.example'\nnext-hop = 25",
            "3: delivery.route.next-hop: write a text in quotes",
        ),
    ] {
        let error = wrong(text);
        assert!(error.starts_with(&format!("/etc/posthouse.toml:{says}")), "{text}\n{error}\n{says}");
    }
}

/// Each key that has bounds: what, the least, what is less, the most, what is more.
const BOUNDS: [(&str, &str, [&str; 2], [&str; 2]); 24] = [
    ("stop.grace", "a duration", ["0s", ""], ["1h", "1h 1s"]),
    ("limits.message", "a size", ["64KiB", "65535"], ["1GiB", "2GiB"]),
    ("limits.header", "a size", ["1KiB", "0"], ["16MiB", "1GiB"]),
    ("limits.text-line", "a size", ["78", "0"], ["1MiB", "2MiB"]),
    ("limits.recipients", "a whole number", ["1", "0"], ["4096", "4097"]),
    ("limits.hops", "a whole number", ["1", "-1"], ["1000", "1001"]),
    ("limits.errors", "a whole number", ["1", "0"], ["10000", "10001"]),
    ("limits.sessions", "a whole number", ["1", "0"], ["1000000", "4294967297"]),
    ("limits.sessions-per-client", "a whole number", ["1", "0"], ["1000000", "1000001"]),
    ("limits.idle", "a duration", ["1s", "0s"], ["1day", "1year"]),
    ("limits.hold", "a duration", ["1s", "0s"], ["1year", "2years"]),
    ("delivery.delay-warning", "a duration", ["0s", ""], ["1year", "2years"]),
    ("limits.data-rate", "a size", ["0", ""], ["1MiB", "1GiB"]),
    ("limits.receive-memory", "a size", ["2MiB", "0"], ["1024GiB", "1025GiB"]),
    ("dns.timeout", "a duration", ["100ms", "0s"], ["1m", "1h"]),
    ("delivery.port", "a whole number", ["1", "0"], ["65535", "65536"]),
    ("delivery.connections", "a whole number", ["1", "0"], ["500", "501"]),
    ("delivery.expire", "a duration", ["100ms", "0s"], ["1year", "2years"]),
    ("delivery.timeout.connect", "a duration", ["1s", "999ms"], ["1day", "1day 1s"]),
    ("delivery.timeout.greeting", "a duration", ["1s", "0s"], ["1day", "2days"]),
    ("delivery.timeout.command", "a duration", ["1s", "0s"], ["1day", "2days"]),
    ("delivery.timeout.data", "a duration", ["1s", "0s"], ["1day", "2days"]),
    ("delivery.timeout.dot", "a duration", ["1s", "0s"], ["1day", "2days"]),
    ("delivery.timeout.burst", "a duration", ["1s", "0s"], ["1day", "2days"]),
];

#[test]
fn a_value_that_no_node_could_live_with_is_refused_with_what_is_possible() {
    let page = include_str!("../../../docs/CONFIGURATION.md");
    for (key, what, [least, less], [most, more]) in BOUNDS {
        let quote = if what == "a whole number" { "" } else { "'" };
        let line = |value: &str| format!("{key} = {quote}{value}{quote}");
        for possible in [least, most] {
            parse(&line(possible)).unwrap_or_else(|error| panic!("{error}"));
        }
        for not in [less, more].into_iter().filter(|value| !value.is_empty()) {
            let says = format!("{key}: {not} is not possible: write {what} from {least} to {most}");
            assert_eq!(wrong(&line(not)), format!("/etc/posthouse.toml:1: {says}"));
        }
        let row = page.lines().find(|row| row.starts_with(&format!("| `{key}` "))).expect("it has a row");
        assert!(row.contains(&format!("from {least} to {most} ")), "{row}");
    }
}

#[test]
fn every_key_of_the_configuration_is_a_known_key_and_the_reverse() {
    let mut config = parse(
        "data-dir = '/var/lib/posthouse'
        cluster.manager = 'mx1.example.org:7025'
        cluster.pin = 'sha256:0000000000000000000000000000000000000000000000000000000000000000'
        dns.servers = ['192.0.2.53']
        delivery.tls.roots = '/etc/ssl/certs/ca-certificates.crt'
        delivery.smarthost = 'mail.example.com:25'
        [[delivery.route]]
        domain = '*.example.com'
        next-hop = '[::1]:25'
        [[delivery.destination]]
        domain = 'example.com'
        connections = 5
        connects-per-minute = 60
        messages-per-minute = 600
        bytes-per-minute = '10MiB'
        messages-per-connection = 100
        retry = ['1m']
        expire = '1day'
        delay-warning = '4h'
        tls = 'require'
        [[delivery.destination]]
        mx = '*.example.net'",
    )
    .unwrap();
    (config.log.level, config.log.format) = (LogLevel::Debug, LogFormat::Json);
    let text = toml::to_string(&config).unwrap();
    assert_eq!(parse(&text).unwrap(), config);

    let mut found = Vec::new();
    keys("", &toml::Value::Table(text.parse().unwrap()), &mut found);
    let mut known: Vec<String> = KEYS.iter().map(ToString::to_string).collect();
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
