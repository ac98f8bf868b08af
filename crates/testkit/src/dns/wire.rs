//! Questions and answers as they go over the wire (RFC 1035, section 4).

use std::net::IpAddr;

use super::Data;

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const MX: u16 = 15;
const AAAA: u16 = 28;
/// The class of all names of the Internet.
const IN: u16 = 1;
/// How long it counts that a name or a record does not exist (RFC 2308, section 5).
const NEGATIVE: u32 = 3600;

/// The number of a type of records.
pub(super) fn kind(word: &str) -> u16 {
    match word {
        "A" => A,
        "AAAA" => AAAA,
        "CNAME" => CNAME,
        "MX" => MX,
        other => panic!("no such type of records: {other}"),
    }
}

/// What a response says as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    Fine,
    /// It would be too long.
    Truncated,
    Fails,
    NoName,
}

/// One question.
pub(super) struct Question {
    id: [u8; 2],
    /// In lower case, without the last dot.
    pub(super) name: String,
    pub(super) kind: u16,
    /// As it came: name, type and class.
    section: Vec<u8>,
}

impl Question {
    /// The question of a message; nothing if it is none.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let id = message.get(..2)?.try_into().ok()?;
        let mut at = 12;
        let mut labels = Vec::new();
        loop {
            let len = usize::from(*message.get(at)?);
            let label = message.get(at + 1..at + 1 + len)?;
            at += 1 + len;
            if len == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        }
        let kind = u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?);
        Some(Self { id, name: labels.join("."), kind, section: message.get(12..at + 4)?.to_vec() })
    }

    /// The response that gives those of a name's records that were asked for, or its alias.
    pub(super) fn answer(&self, response: Response, records: &[(u32, Data)]) -> Vec<u8> {
        let fitting: Vec<&(u32, Data)> =
            records.iter().filter(|(_, data)| [self.kind, CNAME].contains(&data.kind())).collect();
        let nothing = response == Response::NoName || (response == Response::Fine && fitting.is_empty());
        // It is a response, recursion was wanted and is to be had (section 4.1.1).
        let flags = 0x8180
            | match response {
                Response::Fine => 0,
                Response::Truncated => 0x0200,
                Response::Fails => 2,
                Response::NoName => 3,
            };
        let count = u16::try_from(fitting.len()).expect("few records");
        let mut out = self.id.to_vec();
        for field in [flags, 1, count, u16::from(nothing), 0] {
            out.extend(u16::to_be_bytes(field));
        }
        out.extend(&self.section);
        for (ttl, data) in fitting {
            // The name of the question, which stands behind the header.
            out.extend([0xc0, 12]);
            write(&mut out, data.kind(), *ttl, &data.wire());
        }
        if nothing {
            out.extend(name("example"));
            let numbers = [1, 3600, 600, 86_400, NEGATIVE].map(u32::to_be_bytes).concat();
            write(&mut out, SOA, NEGATIVE, &[name("ns.example"), name("host.example"), numbers].concat());
        }
        out
    }
}

/// A record but for its name.
fn write(out: &mut Vec<u8>, kind: u16, ttl: u32, data: &[u8]) {
    out.extend(kind.to_be_bytes());
    out.extend(IN.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).expect("short records").to_be_bytes());
    out.extend(data);
}

fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("short labels"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

impl Data {
    fn kind(&self) -> u16 {
        match self {
            Self::Address(IpAddr::V4(_)) => A,
            Self::Address(IpAddr::V6(_)) => AAAA,
            Self::Mx(..) => MX,
            Self::Cname(_) => CNAME,
        }
    }

    fn wire(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(address)) => address.octets().to_vec(),
            Self::Address(IpAddr::V6(address)) => address.octets().to_vec(),
            Self::Mx(preference, host) => [&preference.to_be_bytes()[..], &name(host)].concat(),
            Self::Cname(host) => name(host),
        }
    }
}
