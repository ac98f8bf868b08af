//! A name server for a bench: every domain has a mail host, whose address says how it is.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
};

use anyhow::{Context, Result};

/// Where the mail hosts of a domain are, by the domain's name.
pub(crate) type Where = fn(&str) -> Ipv4Addr;

/// Answers on a port of loopback until the bench ends; returns its address.
///
/// # Errors
/// There is no port.
pub(crate) fn serve(place: Where) -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a name server")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length], place) {
                // Who has gone meanwhile needs no answer.
                let _ = socket.send_to(&answer, client);
            }
        }
    });
    Ok(address)
}

/// The answer to a question (RFC 1035, section 4.1): for MX `mx.` and the name, for A its address, nothing else.
fn answer(query: &[u8], place: Where) -> Option<Vec<u8>> {
    let question = query.get(HEADER..)?;
    let (name, end) = name_of(question)?;
    let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
    let data = match kind {
        // Preference 10, and the label `mx` before the name that was asked for.
        MX => Some([&[0, 10, 2][..], b"mx", &NAME_AGAIN].concat()),
        A => Some(place(name.strip_prefix("mx.").unwrap_or(&name)).octets().to_vec()),
        _ => None,
    };
    let mut answer = query.get(..2)?.to_vec();
    // A response, recursion available; one question, at most one answer.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
    answer.extend_from_slice(question.get(..end + 4)?);
    if let Some(data) = data {
        answer.extend_from_slice(&NAME_AGAIN);
        answer.extend_from_slice(&kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 14, 16]);
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend_from_slice(&data);
    }
    Some(answer)
}

/// The name that a question begins with, and where it ends.
fn name_of(question: &[u8]) -> Option<(String, usize)> {
    let (mut name, mut at) = (String::new(), 0);
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if !name.is_empty() {
            name.push('.');
        }
        name += str::from_utf8(question.get(at..at + length)?).ok()?;
        at += length;
    }
}

const HEADER: usize = 12;
const A: u16 = 1;
const MX: u16 = 15;

/// The name of the question, by where it stands (RFC 1035, section 4.1.4).
const NAME_AGAIN: [u8; 2] = [0xc0, 12];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_host_is_named_after_its_domain_and_has_the_address_of_its_kind() {
        let place =
            |name: &str| if name == "a.example" { Ipv4Addr::new(10, 1, 2, 3) } else { Ipv4Addr::LOCALHOST };
        let ask = |name: &[u8], kind: u8| {
            let query = [&[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 0, kind, 0, 1]].concat();
            answer(&query, place).expect("it is a question")
        };
        let mx = ask(b"\x01a\x07example", 15);
        assert_eq!((&mx[..2], mx[7]), (&[7, 9][..], 1));
        assert!(mx.ends_with(&[0, 7, 0, 10, 2, b'm', b'x', 0xc0, 12]));
        assert!(ask(b"\x02mx\x01a\x07example", 1).ends_with(&[0, 4, 10, 1, 2, 3]));
        assert_eq!(ask(b"\x02mx\x01a\x07example", 28)[7], 0);
    }
}
