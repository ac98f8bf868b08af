//! What operators do to nodes under load: drain them, take them back, restart one after the other.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use testkit::{
    Cluster, Node, Session,
    client::{Reply, dotted},
    cluster::linked,
    load::{Load, Sent, moody_peer},
    pulse::Pulse,
    story::Story,
    until, wait,
};

use crate::cluster;

#[test]
fn a_node_that_is_drained_under_load_finishes_what_it_has_and_works_again_when_it_is_resumed() {
    let peer = moody_peer();
    let cluster = cluster(2, &peer);
    let worker = &cluster.workers[0];
    let pulse = Pulse::start(cluster.manager.setup().folder());
    // It takes mail in all the time; others deliver it meanwhile.
    let load = Load::start(41, worker.smtp());
    let came_by_it = |since: Instant| {
        let taken = peer.taken();
        taken.iter().filter(|taken| taken.hello == "mx2.example.org" && taken.read > since).count()
    };
    let start = Instant::now();
    until("some load", || (came_by_it(start) >= 40).then_some(()));
    let _ = cluster.manager.command(&["nodes", "drain", "mx2", "--no-wait"]).done();
    until("nothing left", || {
        let node = cluster.node("mx2");
        (node["works"] == 0 && node["held"] == 0).then_some(())
    });
    let drained = Instant::now();
    let before = peer.count();
    until("others deliver", || (peer.count() >= before + 100).then_some(()));
    assert_eq!(came_by_it(drained), 0, "it has nothing left");
    let _ = cluster.manager.command(&["nodes", "resume", "mx2"]).done();
    let resumed = Instant::now();
    until("it delivers again", || (came_by_it(resumed) >= 20).then_some(()));
    let (answered, beats) = (load.stop(), pulse.stop());
    let log = cluster.manager.quiet();
    let (taken, faults) = (peer.taken(), peer.faults());
    // Nothing came twice: nobody died.
    let story = Story { losses: Vec::new(), beats, answered, log, taken, faults };
    story.judge();
    eprintln!("{story}");
}

/// Senders that do what mail servers do: who is told `421` between messages goes to the next address. Within one nobody is to be told
/// so, and nobody is to be left without a word once he was greeted.
#[derive(Debug)]
struct Senders {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    addresses: Vec<SocketAddr>,
    stopped: AtomicBool,
    answered: Mutex<Vec<String>>,
    /// Sessions that did not come to be, or were told `421` before a message began.
    turned_away: AtomicUsize,
    faults: Mutex<Vec<String>>,
}

/// Senders at the same time.
const SENDERS: u64 = 4;
/// How long each rests before its next message, or its next try.
const PAUSE: Duration = Duration::from_millis(15);

impl Senders {
    fn start(seed: u64, addresses: Vec<SocketAddr>) -> Self {
        let shared = Arc::new(Shared {
            addresses,
            stopped: AtomicBool::new(false),
            answered: Mutex::default(),
            turned_away: AtomicUsize::new(0),
            faults: Mutex::default(),
        });
        let sender = |number| {
            let shared = shared.clone();
            thread::spawn(move || shared.send(seed, number))
        };
        Self { threads: (0..SENDERS).map(sender).collect(), shared }
    }

    fn answered(&self) -> usize {
        self.shared.answered.lock().expect("senders do not panic").len()
    }

    /// Stops; returns the names of what was answered 250, and what went wrong.
    fn stop(self) -> (Vec<String>, Vec<String>) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("senders do not panic");
        }
        let turned_away = self.shared.turned_away.load(Ordering::SeqCst);
        eprintln!("{turned_away} sessions ended before a message began");
        let take = |list: &Mutex<Vec<String>>| std::mem::take(&mut *list.lock().expect("nobody panics"));
        (take(&self.shared.answered), take(&self.shared.faults))
    }
}

/// What became of a message at an address.
enum Became {
    Taken,
    /// The next address may have it.
    NotHere,
    /// It may not.
    Refused(String),
}

impl Shared {
    fn send(&self, seed: u64, sender: u64) {
        let mut at = usize::try_from(sender).expect("there are few") % self.addresses.len();
        let mut session = None;
        for number in 0.. {
            let name = format!("{seed}-{sender}-{number}");
            loop {
                // A message that was begun is brought to its end.
                wait::pass(PAUSE);
                if self.stopped.load(Ordering::SeqCst) {
                    return;
                }
                match self.deliver(&mut session, at, &Sent::named(&name)) {
                    Became::Taken => {
                        self.answered.lock().expect("senders do not panic").push(name);
                        break;
                    }
                    Became::NotHere => {
                        self.turned_away.fetch_add(1, Ordering::SeqCst);
                        session = None;
                        at = (at + 1) % self.addresses.len();
                    }
                    Became::Refused(why) => {
                        self.faults.lock().expect("senders do not panic").push(format!("{name}: {why}"));
                        session = None;
                        break;
                    }
                }
            }
        }
    }

    fn deliver(&self, session: &mut Option<Session>, at: usize, sent: &Sent) -> Became {
        let address = self.addresses[at];
        let open = match session.take() {
            Some(open) => Ok(Some(open)),
            None => greeted(address),
        };
        let mut open = match open {
            Ok(Some(open)) => open,
            Ok(None) => return Became::NotHere,
            Err(what) => return Became::Refused(what),
        };
        match goes_on(&mut open, address, &format!("MAIL FROM:<{}>\r\n", sent.sender)) {
            Ok(true) => {}
            Ok(false) => return Became::NotHere,
            Err(what) => return Became::Refused(what),
        }
        // From here on there is no other answer than yes: who stops waits for the end of what has begun.
        let recipients = sent.recipients.iter().map(|to| format!("RCPT TO:<{to}>\r\n").into_bytes());
        let text = [b"DATA\r\n".to_vec(), dotted(&sent.text)];
        for said in recipients.chain(text) {
            match ask(&mut open, &said) {
                Ok(Reply { code: 250 | 354, .. }) => {}
                other => {
                    let what = String::from_utf8_lossy(&said[..said.len().min(40)]).into_owned();
                    return Became::Refused(format!("{address}: after {what:?}: {other:?}"));
                }
            }
        }
        *session = Some(open);
        Became::Taken
    }
}

/// A session; nothing if the address has none for us now.
fn greeted(address: SocketAddr) -> Result<Option<Session>, String> {
    let Ok(mut session) = Session::connect(address) else { return Ok(None) };
    match session.reply() {
        Ok(Reply { code: 220, .. }) => {}
        // A connection may have waited to be taken when its node ended.
        Ok(Reply { code: 421, .. }) | Err(_) => return Ok(None),
        Ok(reply) => return Err(format!("{address}: {reply}")),
    }
    let goes_on = goes_on(&mut session, address, "EHLO client.example\r\n")?;
    Ok(goes_on.then_some(session))
}

/// Whether a session goes on after these words between messages. It may end with `421` there, and in no other way.
fn goes_on(session: &mut Session, address: SocketAddr, said: &str) -> Result<bool, String> {
    match ask(session, said.as_bytes()) {
        Ok(Reply { code: 250, .. }) => Ok(true),
        Ok(Reply { code: 421, .. }) => Ok(false),
        other => Err(format!("{address}: after {said:?}: {other:?}")),
    }
}

/// Says this; a reply that was on its way counts though nobody listens any more.
fn ask(session: &mut Session, bytes: &[u8]) -> io::Result<Reply> {
    let written = session.write(bytes);
    session.reply().or_else(|error| written.and(Err(error)))
}

#[test]
fn all_nodes_are_restarted_one_after_the_other_and_no_message_is_refused_or_lost() {
    let peer = moody_peer();
    let mut cluster = Cluster::with(env!("CARGO_BIN_EXE_posthouse"), 0, "", |setup| {
        setup.lasting_door().to(&peer).flag("--retry", "100ms,300ms")
    });
    for name in ["mx2", "mx3"] {
        let worker = cluster.worker(name).lasting_door().start();
        cluster.introduce(&worker, name);
        linked(&worker);
        cluster.workers.push(worker);
    }
    let pulse = Pulse::start(cluster.manager.setup().folder());
    let doors = [&cluster.manager, &cluster.workers[0], &cluster.workers[1]].map(Node::smtp);
    let senders = Senders::start(42, doors.to_vec());
    let more = |count: usize| {
        let before = senders.answered();
        until("more mail", || (senders.answered() >= before + count).then_some(()));
    };
    more(40);
    for _ in 0..2 {
        for number in 0..2 {
            cluster.workers[number].stop();
            more(20);
            cluster.workers[number].restart();
            linked(&cluster.workers[number]);
            more(20);
        }
        cluster.manager.stop();
        cluster.manager.restart();
        for worker in &cluster.workers {
            until("a link", || (worker.json(&["status"])["worker"]["away"].is_null()).then_some(()));
        }
        more(20);
    }
    let (answered, faults) = senders.stop();
    let beats = pulse.stop();
    assert_eq!(faults, Vec::<String>::new());
    let log = cluster.manager.quiet();
    let (taken, faults) = (peer.taken(), peer.faults());
    let story = Story { losses: Vec::new(), beats, answered, log, taken, faults };
    story.judge();
    eprintln!("{story}");
}
