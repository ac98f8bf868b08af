//! A client that says over SMTP whatever a test wants said.

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use crate::wait::PATIENCE;

/// A session with a server.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// The text of all its lines.
    pub text: String,
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// Connects from one of this machine's addresses.
///
/// # Errors
/// There is no connection.
pub(crate) fn dial(client: Ipv4Addr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client, 0)).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

impl Session {
    /// Connects, and says nothing.
    ///
    /// # Errors
    /// There is no connection.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Connects from one of this machine's addresses, and exchanges greetings.
    ///
    /// # Panics
    /// If that address cannot be used, or the server does not want us.
    #[must_use]
    pub fn open_from(client: Ipv4Addr, address: SocketAddr) -> Self {
        let greeted = dial(client, address).and_then(Self::greeted_over);
        greeted.unwrap_or_else(|error| panic!("no session with {address} from {client}: {error}"))
    }

    /// Connects and exchanges greetings.
    ///
    /// # Errors
    /// There is no connection, or the server does not want us.
    pub fn greeted(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).and_then(Self::greeted_over)
    }

    /// Exchanges greetings over a connection.
    pub(crate) fn greeted_over(stream: TcpStream) -> io::Result<Self> {
        let mut session = Self::over(stream)?;
        for (line, code) in [("", 220), ("EHLO client.example\r\n", 250)] {
            session.write(line.as_bytes())?;
            let reply = session.reply()?;
            if reply.code != code {
                return Err(io::Error::other(reply.to_string()));
            }
        }
        Ok(session)
    }

    /// Connects and exchanges greetings.
    ///
    /// # Panics
    /// If the server does not want us.
    #[must_use]
    pub fn open(address: SocketAddr) -> Self {
        Self::greeted(address).unwrap_or_else(|error| panic!("no session with {address}: {error}"))
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply.
    ///
    /// # Errors
    /// The connection is gone, or what came is no reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let mut line = Vec::new();
            if self.stream.read_until(b'\n', &mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            let code = line.get(..3).and_then(|code| code.parse().ok()).filter(|_| line.ends_with("\r\n"));
            let code = code.ok_or_else(|| io::Error::other(format!("no reply: {line:?}")))?;
            text += line.get(4..).unwrap_or_default().trim_end_matches("\r\n");
            if line.as_bytes()[3] != b'-' {
                return Ok(Reply { code, text });
            }
            text.push('\n');
        }
    }

    /// Says a line, and returns the reply.
    ///
    /// # Panics
    /// If there is none.
    pub fn say(&mut self, line: &str) -> Reply {
        self.send(format!("{line}\r\n").as_bytes())
    }

    /// Writes bytes as they are, and returns the reply.
    ///
    /// # Panics
    /// If there is none.
    pub fn send(&mut self, bytes: &[u8]) -> Reply {
        let reply = self.write(bytes).and_then(|()| self.reply());
        reply.unwrap_or_else(|error| panic!("no reply to {:?}: {error}", String::from_utf8_lossy(bytes)))
    }

    /// Names the sender and the recipients.
    ///
    /// # Panics
    /// If one of them is refused.
    pub fn envelope(&mut self, sender: &str, recipients: &[&str]) {
        let reply = self.say(&format!("MAIL FROM:<{sender}>"));
        assert_eq!(reply.code, 250, "{reply}");
        for recipient in recipients {
            let reply = self.say(&format!("RCPT TO:<{recipient}>"));
            assert_eq!(reply.code, 250, "{reply}");
        }
    }

    /// Sends a text whose last line has its end, with DATA, and returns the last reply.
    ///
    /// # Panics
    /// If there is none.
    pub fn data(&mut self, text: &[u8]) -> Reply {
        match self.say("DATA") {
            Reply { code: 354, .. } => self.send(&dotted(text)),
            refused => refused,
        }
    }

    /// Sends a text with BDAT, in one chunk.
    ///
    /// # Panics
    /// If there is no reply.
    pub fn bdat(&mut self, text: &[u8]) -> Reply {
        self.send(&[format!("BDAT {} LAST\r\n", text.len()).as_bytes(), text].concat())
    }

    /// Waits until the server closes; returns what it said before.
    ///
    /// # Panics
    /// If it does not close.
    #[must_use]
    pub fn farewell(mut self) -> String {
        let mut said = Vec::new();
        match self.stream.read_to_end(&mut said) {
            Ok(_) => {}
            // It may close with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server does not close: {error}"),
        }
        String::from_utf8_lossy(&said).into_owned()
    }
}

/// A text as it goes over the wire after DATA: with stuffed dots, and its end (RFC 5321, section 4.5.2).
#[must_use]
pub fn dotted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 64);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}
