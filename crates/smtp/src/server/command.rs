//! The grammar of commands (RFC 5321, section 4.1.1; BDAT by RFC 3030, section 2).

use crate::{Address, AddressError, ReversePath, unseen::is_unseen};

/// A command line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'l> {
    Ehlo(&'l str),
    Helo(&'l str),
    Mail { sender: ReversePath, parameters: &'l str },
    Rcpt { recipient: Recipient, parameters: &'l str },
    Data,
    Bdat(Chunk),
    Rset,
    Noop,
    Quit,
    Vrfy,
    Help,
}

/// Whom RCPT names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    Address(Address),
    /// `<Postmaster>`, whoever that is here (RFC 5321, section 4.1.1.3).
    Postmaster,
}

/// What BDAT announces, and later how much of it is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) left: u64,
    pub(super) place: Place,
}

/// Where in the message a chunk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Inner,
    Last,
}

/// Why a command line was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No command begins like that.
    Unknown,
    /// A command of the protocol that we do not offer.
    NotOffered,
    /// The line is no text, or holds characters that are not shown.
    NotText,
    /// The command is known, and this is how it is written.
    Usage(&'static str),
    /// The address in it is none.
    Address(AddressError),
    /// A chunk of unknown size follows: nothing after it can be told apart.
    ChunkSize,
    /// Another protocol: somebody makes a browser speak to us.
    Foreign,
}

const MAIL: &str = "MAIL FROM:<sender@example.org> [parameters]";
const RCPT: &str = "RCPT TO:<recipient@example.org>";

/// Reads a command line, given without its end.
pub(super) fn parse(line: &[u8]) -> Result<Command<'_>, Fault> {
    let line = str::from_utf8(line).map_err(|_| Fault::NotText)?;
    if line.contains(|c| is_unseen(c) && c != '\t') {
        return Err(Fault::NotText);
    }
    let (verb, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let rest = rest.trim_matches([' ', '\t']);
    let mut upper = [0; 8];
    let upper = upper.get_mut(..verb.len()).ok_or(Fault::Unknown)?;
    upper.copy_from_slice(verb.as_bytes());
    upper.make_ascii_uppercase();
    let alone = |command, usage| if rest.is_empty() { Ok(command) } else { Err(Fault::Usage(usage)) };
    match &*upper {
        b"EHLO" => hello(rest).map(Command::Ehlo).ok_or(Fault::Usage("EHLO host.example.org")),
        b"HELO" => hello(rest).map(Command::Helo).ok_or(Fault::Usage("HELO host.example.org")),
        b"MAIL" => {
            let (path, parameters) = path(rest, "FROM:").ok_or(Fault::Usage(MAIL))?;
            Ok(Command::Mail { sender: sender(path)?, parameters })
        }
        b"RCPT" => {
            let (path, parameters) = path(rest, "TO:").ok_or(Fault::Usage(RCPT))?;
            Ok(Command::Rcpt { recipient: recipient(path)?, parameters })
        }
        b"DATA" => alone(Command::Data, "DATA"),
        b"BDAT" => chunk(rest).map(Command::Bdat).ok_or(Fault::ChunkSize),
        b"RSET" => alone(Command::Rset, "RSET"),
        b"QUIT" => alone(Command::Quit, "QUIT"),
        b"NOOP" => Ok(Command::Noop),
        b"VRFY" => Ok(Command::Vrfy),
        b"HELP" => Ok(Command::Help),
        b"EXPN" | b"TURN" | b"ETRN" | b"AUTH" | b"STARTTLS" => Err(Fault::NotOffered),
        b"GET" | b"POST" | b"PUT" | b"CONNECT" | b"OPTIONS" => Err(Fault::Foreign),
        _ => Err(Fault::Unknown),
    }
}

/// A name that a client gives itself: one word that fits where names go.
fn hello(rest: &str) -> Option<&str> {
    (!rest.is_empty() && rest.len() <= 255 && !rest.contains([' ', '\t'])).then_some(rest)
}

/// What stands between the angle brackets, and the parameters behind them. Blanks before the
/// bracket are let pass: too many clients send one.
fn path<'l>(rest: &'l str, keyword: &str) -> Option<(&'l str, &'l str)> {
    let (word, rest) = rest.split_at_checked(keyword.len())?;
    let rest = rest.trim_start_matches([' ', '\t']).strip_prefix('<')?;
    let (path, parameters) = rest.split_at(bracket(rest.as_bytes())?);
    let parameters = &parameters[1..];
    let apart = parameters.is_empty() || parameters.starts_with([' ', '\t']);
    (word.eq_ignore_ascii_case(keyword) && apart).then_some((path, parameters))
}

/// Where the closing bracket stands, outside of quotes.
fn bracket(path: &[u8]) -> Option<usize> {
    let (mut at, mut quoted) = (0, false);
    loop {
        match path.get(at)? {
            b'>' if !quoted => return Some(at),
            b'"' => quoted = !quoted,
            b'\\' if quoted => at += 1,
            _ => {}
        }
        at += 1;
    }
}

fn sender(path: &str) -> Result<ReversePath, Fault> {
    without_route(path).to_owned().try_into().map_err(Fault::Address)
}

fn recipient(path: &str) -> Result<Recipient, Fault> {
    if path.eq_ignore_ascii_case("postmaster") {
        return Ok(Recipient::Postmaster);
    }
    without_route(path).parse().map(Recipient::Address).map_err(Fault::Address)
}

/// The mailbox of a path; hosts named before it are passed over (RFC 5321, appendix C).
fn without_route(path: &str) -> &str {
    match path.split_once(':') {
        Some((route, mailbox)) if route.starts_with('@') => mailbox,
        _ => path,
    }
}

fn chunk(rest: &str) -> Option<Chunk> {
    let mut words = rest.split_ascii_whitespace();
    let left = number(words.next()?)?;
    let place = match words.next() {
        None => Place::Inner,
        Some(last) if last.eq_ignore_ascii_case("LAST") => Place::Last,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Chunk { left, place })
}

/// A number of at most 20 digits (RFC 1870, section 3).
pub(super) fn number(digits: &str) -> Option<u64> {
    let is_number = (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(line: &str) -> Option<(String, String)> {
        match parse(line.as_bytes()) {
            Ok(Command::Mail { sender, parameters }) => {
                Some((sender.to_string(), parameters.trim().to_owned()))
            }
            _ => None,
        }
    }

    #[test]
    fn paths_are_read_with_quotes_blanks_and_old_routes() {
        let read = |path: &str, parameters: &str| Some((path.to_owned(), parameters.to_owned()));
        assert_eq!(mail("MAIL FROM:<>"), read("<>", ""));
        assert_eq!(mail("mail from:<a@b> SIZE=1  BODY=7BIT "), read("a@b", "SIZE=1  BODY=7BIT"));
        assert_eq!(mail("MAIL FROM: <a@b>"), read("a@b", ""));
        assert_eq!(mail("MAIL FROM:<\"a> b\\\"\"@c>"), read("\"a> b\\\"\"@c", ""));
        assert_eq!(mail("MAIL FROM:<@x,@y:a@b>"), read("a@b", ""));
        for line in [
            "MAIL FROM:a@b",
            "MAIL FROM:<a@b>SIZE=1",
            "MAIL <a@b>",
            "MAIL FROM:<a@b",
            "MAIL",
            "MAIL FROM<a@b>",
        ] {
            assert_eq!(mail(line), None, "{line}");
        }
        let postmaster = Command::Rcpt { recipient: Recipient::Postmaster, parameters: "" };
        assert_eq!(parse(b"RCPT TO:<PostMaster>"), Ok(postmaster));
        assert!(matches!(parse(b"RCPT TO:<>"), Err(Fault::Address(_))));
    }

    #[test]
    fn chunks_have_a_size_and_may_be_the_last() {
        assert_eq!(parse(b"BDAT 12"), Ok(Command::Bdat(Chunk { left: 12, place: Place::Inner })));
        assert_eq!(parse(b"bdat 0 last"), Ok(Command::Bdat(Chunk { left: 0, place: Place::Last })));
        for line in ["BDAT", "BDAT x", "BDAT -1", "BDAT 1 FIRST", "BDAT 1 LAST 2", "BDAT +1"] {
            assert_eq!(parse(line.as_bytes()), Err(Fault::ChunkSize), "{line}");
        }
    }

    #[test]
    fn lines_that_are_no_command_say_why() {
        for (line, fault) in [
            ("", Fault::Unknown),
            ("FROBNICATE", Fault::Unknown),
            (" NOOP", Fault::Unknown),
            ("NOOP\0", Fault::NotText),
            ("NOOP\rRSET", Fault::NotText),
            ("EHLO a\u{9b}31mb", Fault::NotText),
            ("HELO \u{202e}gro.elpmaxe", Fault::NotText),
            ("MAIL FROM:<a\u{85}@b>", Fault::NotText),
            ("RCPT TO:<a@b> X=\u{feff}", Fault::NotText),
            ("NOOP \u{7f}", Fault::NotText),
            ("AUTH PLAIN", Fault::NotOffered),
            ("GET / HTTP/1.1", Fault::Foreign),
            ("DATA now", Fault::Usage("DATA")),
            ("EHLO", Fault::Usage("EHLO host.example.org")),
            ("EHLO a b", Fault::Usage("EHLO host.example.org")),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(fault), "{line}");
        }
        assert_eq!(parse(b"NOOP \xff"), Err(Fault::NotText));
        assert_eq!(parse(b"quit "), Ok(Command::Quit));
        assert_eq!(parse("EHLO bücher.example".as_bytes()), Ok(Command::Ehlo("bücher.example")));
    }
}
