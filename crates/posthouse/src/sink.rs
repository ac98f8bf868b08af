//! A next hop that takes everything and keeps nothing: where the demo's mail ends, and that of tests.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use base::Shutdown;
use smtp::{
    Address, Extensions, Reply, ReversePath, Server,
    server::{Config, Event},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Answers to a recipient; nothing: the sink takes him.
pub type Judge = dyn Fn(&Address) -> Option<Reply> + Send + Sync;

/// How a sink behaves.
#[derive(Clone)]
pub struct Behaviour {
    /// What it offers in EHLO.
    pub extensions: Extensions,
    /// What it answers to a recipient.
    pub judge: Arc<Judge>,
    /// Is shown every message just before it is answered.
    pub witness: Arc<dyn Fn(Taken) + Send + Sync>,
    /// How long it thinks.
    pub thinks: Thinks,
}

/// How long a sink thinks about each message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinks {
    /// Before it asks for the text.
    pub text: Duration,
    /// Before it answers to the final dot.
    pub dot: Duration,
}

/// A message that a sink takes.
#[derive(Clone, Debug)]
pub struct Taken {
    /// What the client calls itself.
    pub client: String,
    /// Where reports would go.
    pub sender: ReversePath,
    /// Whom it was for.
    pub recipients: Vec<Address>,
    /// Its text, without stuffing.
    pub text: Vec<u8>,
}

impl Taken {
    fn of(sender: ReversePath) -> Self {
        Self { client: String::new(), sender, recipients: Vec::new(), text: Vec::new() }
    }
}

/// A sink that listens.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shutdown: Shutdown,
}

/// Most bytes read at once.
const READ: usize = 64 << 10;

impl Default for Behaviour {
    /// Offers everything, takes everybody at once, tells nobody.
    fn default() -> Self {
        let (judge, witness) = (Arc::new(|_: &Address| None), Arc::new(drop));
        Self { extensions: Extensions::all(), judge, witness, thinks: Thinks::default() }
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour").field("extensions", &self.extensions).finish_non_exhaustive()
    }
}

impl Sink {
    /// Starts a sink on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn start(address: SocketAddr, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let sink = Self { address: listener.local_addr()?, shutdown: Shutdown::new() };
        tokio::spawn(listen(listener, behaviour, sink.shutdown.clone()));
        Ok(sink)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

async fn listen(listener: TcpListener, behaviour: Behaviour, shutdown: Shutdown) {
    let config = Arc::new(Config { extensions: behaviour.extensions, ..Config::new("sink.example") });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (config, behaviour, shutdown) = (config.clone(), behaviour.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                // A client that breaks off is its own affair.
                _ = serve(stream, Server::new(config), &behaviour) => {}
                () = shutdown.stopping() => {}
            }
        });
    }
}

async fn serve(mut stream: TcpStream, mut server: Server, behaviour: &Behaviour) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(READ);
    let mut message = Taken::of(ReversePath::Null);
    loop {
        let mut input = &buffer[..];
        let goes_on = loop {
            match server.advance(&mut input) {
                Event::NeedInput => break true,
                Event::Quit | Event::Close => break false,
                Event::Mail(mail) => {
                    message = Taken::of(mail.sender);
                    server.accept();
                }
                Event::Rcpt(recipient) => match (behaviour.judge)(&recipient) {
                    Some(reply) => server.reject(&reply),
                    None => {
                        message.recipients.push(recipient);
                        server.accept();
                    }
                },
                Event::BodyStart => {
                    think(behaviour.thinks.text).await;
                    server.accept();
                }
                Event::Body(piece) => message.text.extend_from_slice(piece),
                Event::BodyEnd(_) => {
                    think(behaviour.thinks.dot).await;
                    message.client = server.hello().map(|hello| hello.name.to_string()).unwrap_or_default();
                    (behaviour.witness)(std::mem::replace(&mut message, Taken::of(ReversePath::Null)));
                    server.finish(&Reply::new(250, (2, 0, 0), "taken"));
                }
                Event::BodyRefused(_) | Event::Aborted => message.text.clear(),
            }
        };
        let output = std::mem::take(server.output());
        stream.write_all(&output).await?;
        buffer.clear();
        if !goes_on || stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

async fn think(time: Duration) {
    // Even a sleep of no time takes a millisecond.
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
