//! A name server that knows what it is told, over UDP and TCP (RFC 1035), and counts what it is asked.

mod wire;

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use crate::wait::{Gate, locked};
use wire::{Question, Response};

/// What a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// An address, of either family.
    Address(IpAddr),
    /// A mail host with its preference; `.` says that there is none (RFC 7505).
    Mx(u16, String),
    /// The name that this one stands for.
    Cname(String),
}

/// What becomes of questions about a name.
#[derive(Clone, Debug)]
enum Fate {
    /// It has these records, and no others.
    Records(Vec<(u32, Data)>),
    /// The server fails.
    Fails,
    /// Nothing is said.
    Silent,
    /// Nothing is said before a gate is open.
    Behind(Gate, Vec<(u32, Data)>),
}

/// A name server on a port of its own; other names than those that it was told of do not exist.
#[derive(Debug)]
pub struct Dns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<String, Fate>,
    asked: Vec<(String, u16)>,
    /// Answers over UDP have no room for more than this.
    room: Option<usize>,
    closed: bool,
}

impl Dns {
    /// A server that knows no name.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start() -> Self {
        // The same port for both: another's may be free for one alone.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
                let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
                Some((udp, tcp))
            })
            .expect("there is a free port");
        let address = udp.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::<State>::default());
        let (over_udp, over_tcp) = (state.clone(), state.clone());
        thread::spawn(move || datagrams(&Arc::new(udp), &over_udp));
        thread::spawn(move || streams(&tcp, &over_tcp));
        Self { address, state }
    }

    /// Where it answers.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The line of `posthouse.toml` that makes a node ask here.
    #[must_use]
    pub fn setting(&self) -> String {
        format!("dns.servers = ['{}']\n", self.address)
    }

    /// A name has these records, which count for so many seconds.
    pub fn has(&self, name: &str, ttl: u32, records: &[Data]) {
        self.set(name, Fate::Records(records.iter().map(|data| (ttl, data.clone())).collect()));
    }

    /// A name has these mail hosts.
    pub fn mail(&self, name: &str, hosts: &[(u16, &str)]) {
        let hosts: Vec<Data> =
            hosts.iter().map(|(order, host)| Data::Mx(*order, (*host).to_owned())).collect();
        self.has(name, 3600, &hosts);
    }

    /// A host has these addresses.
    ///
    /// # Panics
    /// If one of them is none.
    pub fn host(&self, name: &str, addresses: &[&str]) {
        let data = |address: &&str| Data::Address(address.parse().expect("it is an address"));
        self.has(name, 3600, &addresses.iter().map(data).collect::<Vec<_>>());
    }

    /// The server fails at a name (SERVFAIL).
    pub fn fails(&self, name: &str) {
        self.set(name, Fate::Fails);
    }

    /// The server says nothing of a name.
    pub fn is_silent(&self, name: &str) {
        self.set(name, Fate::Silent);
    }

    /// The server says of a name what it has when the gate is open.
    pub fn waits(&self, name: &str, gate: &Gate, records: &[Data]) {
        let records = records.iter().map(|data| (3600, data.clone())).collect();
        self.set(name, Fate::Behind(gate.clone(), records));
    }

    /// Over UDP no answer of more bytes is given whole, so that it is asked for over TCP.
    pub fn has_room_for(&self, bytes: usize) {
        locked(&self.state).room = Some(bytes);
    }

    /// How often records of this type (RFC 1035, section 3.2.2) were asked for under a name.
    #[must_use]
    pub fn asked(&self, name: &str, kind: &str) -> usize {
        let kind = wire::kind(kind);
        locked(&self.state).asked.iter().filter(|asked| asked.0 == name && asked.1 == kind).count()
    }

    fn set(&self, name: &str, fate: Fate) {
        locked(&self.state).names.insert(name.to_owned(), fate);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        locked(&self.state).closed = true;
        // The last of either, which wake the listeners.
        drop(TcpStream::connect(self.address));
        if let Ok(socket) = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)) {
            let _ = socket.send_to(&[], self.address);
        }
    }
}

/// The answer to a question; nothing where nothing is to be said.
fn answer(question: &Question, state: &Mutex<State>) -> Option<Vec<u8>> {
    let fate = {
        let mut state = locked(state);
        state.asked.push((question.name.clone(), question.kind));
        state.names.get(&question.name).cloned()
    };
    Some(match fate {
        None => question.answer(Response::NoName, &[]),
        Some(Fate::Fails) => question.answer(Response::Fails, &[]),
        Some(Fate::Silent) => return None,
        Some(Fate::Records(records)) => question.answer(Response::Fine, &records),
        Some(Fate::Behind(gate, records)) => {
            gate.pass();
            question.answer(Response::Fine, &records)
        }
    })
}

fn datagrams(socket: &Arc<UdpSocket>, state: &Arc<Mutex<State>>) {
    let mut datagram = [0; 4096];
    while let Ok((len, from)) = socket.recv_from(&mut datagram) {
        if locked(state).closed {
            return;
        }
        let Some(question) = Question::read(&datagram[..len]) else { continue };
        let (socket, state) = (socket.clone(), state.clone());
        thread::spawn(move || {
            let Some(mut response) = answer(&question, &state) else { return };
            if locked(&state).room.is_some_and(|room| response.len() > room) {
                response = question.answer(Response::Truncated, &[]);
            }
            // Who asked may be gone.
            let _ = socket.send_to(&response, from);
        });
    }
}

fn streams(listener: &TcpListener, state: &Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept() {
        if locked(state).closed {
            return;
        }
        let state = state.clone();
        // A client that breaks off has asked all that it wanted.
        thread::spawn(move || drop(converse(stream, &state)));
    }
}

/// Questions over TCP, each behind its length (RFC 1035, section 4.2.2).
fn converse(mut stream: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    loop {
        let mut len = [0; 2];
        stream.read_exact(&mut len)?;
        let mut message = vec![0; u16::from_be_bytes(len).into()];
        stream.read_exact(&mut message)?;
        let Some(response) = Question::read(&message).and_then(|question| answer(&question, state)) else {
            continue;
        };
        let len = u16::try_from(response.len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes()[..], &response].concat())?;
    }
}
