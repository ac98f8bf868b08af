//! Addresses of any characters.

use smtp::{Address, ReversePath};
use testkit::fuzz::Fuzz;

use crate::driver::talk;

const WORDS: [&str; 26] = [
    "a",
    "@",
    ".",
    "\"",
    "\\",
    " ",
    "<",
    ">",
    "[",
    "]",
    "192.0.2.1",
    "IPv6:::1",
    "example.com",
    "xn--",
    "-",
    "\u{e9}",
    "\u{202e}",
    "\0",
    "\r\n",
    ":",
    ",",
    "@a,@b:",
    "postmaster",
    "\u{3002}",
    "%",
    "RCPT",
];

#[test]
fn an_address_that_is_taken_reads_back_as_itself_and_holds_nothing_that_ends_it() {
    let seeds = [
        "a@example.com",
        "\"a b\"@example.com",
        "j\u{f6}rg@b\u{fc}cher.example",
        "x@[IPv6:2001:db8::1]",
        "a.b+c@d",
    ];
    Fuzz::new(seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect(), &WORDS, 8000).run(|input| {
        let text = String::from_utf8_lossy(input);
        let _ = ReversePath::try_from(text.clone().into_owned());
        let read: Result<Address, _> = text.parse();
        if let Ok(address) = &read {
            sound(address);
        }
        // What comes in by a session is held to the same.
        let script = format!("EHLO me\r\nMAIL FROM:<{text}> SMTPUTF8\r\nRCPT TO:<{text}>\r\n");
        let log = talk(script.as_bytes());
        let kinds: Vec<String> = log.events.iter().map(|event| event.chars().take(4).collect()).collect();
        (
            read.map_err(|error| format!("{error:?}"))
                .map(|address| (address.is_ascii(), address.local().starts_with('"'))),
            kinds,
        )
    });
}

fn sound(address: &Address) {
    let text = address.as_str();
    assert_eq!(text.parse::<Address>().as_ref(), Ok(address));
    assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
    assert!(text.len() <= 64 + 1 + 255, "{} bytes", text.len());
    assert_eq!(Address::new(address.local(), address.domain()).as_ref(), Ok(address));
    assert_eq!(format!("{}@{}", address.local(), address.domain()), text);
}
