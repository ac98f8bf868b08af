//! A client that hands messages over one at a time: the demo's traffic, and that of tests.

use std::{io, net::SocketAddr};

use smtp::{
    Address, BodyType, Client, Needs, ReversePath, SmtpUtf8,
    client::{
        Config, Event, RecipientResult, Transaction,
        stuff::{END_OF_DATA, Stuffer},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A session with a server.
#[derive(Debug)]
pub struct Sender {
    stream: TcpStream,
    client: Client,
    input: Vec<u8>,
}

impl Sender {
    /// Opens a session.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let client = Client::new(Config { ehlo_name: "sender.example".into() });
        Ok(Self { stream, client, input: Vec::with_capacity(4096) })
    }

    /// Hands a message over; its lines end in CRLF. Returns what became of each recipient.
    ///
    /// # Errors
    /// The session broke off: whether the message was taken is not known.
    pub async fn send(
        &mut self,
        sender: ReversePath,
        recipients: Vec<Address>,
        text: &[u8],
    ) -> io::Result<Vec<RecipientResult>> {
        let body = if text.is_ascii() { BodyType::SevenBit } else { BodyType::EightBitMime };
        let needs = Needs { body, utf8: SmtpUtf8::No };
        let size = text.len() as u64;
        self.client.start(Transaction { token: 0, sender, recipients, size, needs });
        loop {
            match self.next().await? {
                Event::NeedInput | Event::Ready(_) | Event::Secure | Event::NotSecured(_) => {}
                Event::SendBody { .. } => {
                    let mut stuffer = Stuffer::new();
                    let mut stuffed = Vec::with_capacity(text.len() + END_OF_DATA.len());
                    for piece in stuffer.stuff(text) {
                        stuffed.extend_from_slice(piece);
                    }
                    stuffed.extend_from_slice(stuffer.end());
                    self.client.body_sent();
                    self.stream.write_all(&stuffed).await?;
                }
                Event::Done { results, .. } => return Ok(results),
                Event::Closed(reply) => {
                    let text = reply.map_or_else(|| "closed".into(), |reply| reply.to_string());
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
                }
                Event::Broken(error) => return Err(io::Error::other(error.to_string())),
            }
        }
    }

    async fn next(&mut self) -> io::Result<Event> {
        loop {
            let mut input = &self.input[..];
            let event = self.client.advance(&mut input);
            let taken = self.input.len() - input.len();
            self.input.drain(..taken);
            if event != Event::NeedInput {
                return Ok(event);
            }
            let output = std::mem::take(self.client.output());
            self.stream.write_all(&output).await?;
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
