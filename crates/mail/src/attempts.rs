//! What a node attempts with: its connections, what it remembers of hosts, and whom it trusts.
//!
//! It sees no queue: any node that sends mail has it.

use std::{sync::Arc, time::Duration};

use base::Clock;

use crate::{
    Config, Counters, Live,
    attempt::{self, Finished, Home, Tools},
    burst::Burst,
    connection::Kept,
    lately::Lately,
    opening,
    tls::{Handshakes, Trusted},
};

/// How long our goodbyes on kept connections may take.
const GOODBYES: Duration = Duration::from_millis(100);

/// What all attempts of a node share.
#[derive(Debug)]
pub(crate) struct Attempts {
    config: Live,
    counters: Arc<Counters>,
    clock: Clock,
    kept: Kept,
    /// Addresses that could not be reached.
    dead: Lately,
    /// Addresses that kept silent when commands came together.
    one_by_one: Lately,
    handshakes: Handshakes,
}

/// What was read of the files that a configuration names.
#[derive(Debug)]
pub struct Files(Option<Trusted>);

impl Attempts {
    /// Nothing is attempted yet.
    ///
    /// # Errors
    /// Those who are trusted to sign certificates cannot be read.
    pub(crate) fn new(config: &Live, counters: Arc<Counters>, clock: Clock) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            handshakes: Handshakes::new(&config.now().delivery.tls)?,
            config: config.clone(),
            counters,
            clock,
            kept: Kept::default(),
            dead: Lately::new(opening::DEAD_FOR),
            one_by_one: Lately::new(opening::ONE_BY_ONE_FOR),
        }))
    }

    /// Attempts all items of a burst, as the configuration of this node says now.
    pub(crate) async fn run<H: Home>(&self, burst: &Burst, home: &mut H) -> Finished {
        let config = self.config.now();
        let tools = Tools {
            kept: &self.kept,
            dead: &self.dead,
            one_by_one: &self.one_by_one,
            handshakes: &self.handshakes,
            ehlo: config.hostname.as_str(),
            roots: config.delivery.tls.roots.as_deref(),
            timeouts: &config.delivery.timeouts,
            counters: &self.counters,
            clock: &self.clock,
        };
        attempt::run(burst, home, tools).await
    }

    /// Reads the files that a configuration names. Nothing changes by that.
    ///
    /// # Errors
    /// One cannot be read.
    pub(crate) fn read(&self, config: &Config) -> Result<Files, String> {
        self.handshakes.read(&config.delivery.tls).map(Files)
    }

    /// From now on what was read of files counts.
    pub(crate) fn take(&self, files: Files) {
        if let Files(Some(trusted)) = files {
            self.handshakes.trust_from_now_on(trusted);
        }
    }

    /// Connections that are kept for the next burst.
    pub(crate) fn kept_connections(&self) -> usize {
        self.kept.len()
    }

    /// Ends the connections that nobody used for a while.
    pub(crate) fn sweep(&self) {
        drop(self.kept.sweep(None));
    }

    /// Says goodbye on all connections that are kept, as far as the hosts are quick to hear it.
    pub(crate) async fn goodbyes(&self) {
        let goodbyes = self.kept.sweep(Some(Duration::ZERO));
        let patience = tokio::time::sleep(GOODBYES);
        tokio::pin!(patience);
        for goodbye in goodbyes {
            tokio::select! {
                _ = goodbye => {}
                () = &mut patience => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::NextHop;
    use parking_lot::Mutex;
    use queue::{BodySource, LeaseOver, Recipients};
    use smtp::{Needs, ReversePath};
    use testkit::{Moment, Move, Peer};

    use super::*;
    use crate::{
        TlsLevel,
        burst::{Hop, Host, Item, Tried},
        envelope::Dots,
        site::Keeps,
    };

    /// A home far away: what it hears, and what it answers to whoever asks to pass the point of no return.
    struct Far(Vec<Tried>, Result<Recipients, LeaseOver>);

    impl Default for Far {
        fn default() -> Self {
            Self(Vec::new(), Ok(Recipients::first(1)))
        }
    }

    impl Home for Far {
        fn body(&self, _: usize) -> BodySource {
            BodySource::Memory(b"Subject: far\r\n\r\n"[..].into())
        }

        async fn commit(&mut self, _: usize) -> Result<Recipients, LeaseOver> {
            self.1
        }

        async fn tell(&mut self, _: usize, tried: Tried) {
            self.0.push(tried);
        }
    }

    fn burst_to(peer: &Peer) -> Burst {
        let name: NextHop = peer.address().to_string().parse().unwrap();
        let at = Clock::system().now();
        let item = Item {
            work: base::WorkId { message: base::MessageId::generate(at), index: 0 },
            sender: ReversePath::Null,
            recipients: vec![(0, "b@example.com".parse().unwrap())],
            size: 16,
            dots: Dots::None,
            needs: Needs::default(),
        };
        let hop = Hop {
            name: name.to_string(),
            hosts: vec![Host { name, addresses: vec![peer.address()] }],
            messages_per_connection: None,
            tls: TlsLevel::Off,
        };
        Burst { hop, items: vec![item], then: Keeps::Connection }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_node_attempts_under_its_own_name_over_its_own_connections() {
        let hellos = Arc::new(Mutex::new(Vec::new()));
        let heard = hellos.clone();
        let peer = Peer::start(move |moment| {
            if let Moment::Hello(line) = moment {
                heard.lock().push(line.trim_end().to_owned());
            }
            Move::Go
        });
        let (burst, mut home) = (burst_to(&peer), Far::default());
        for hostname in ["mx1.example.org", "mx2.example.org"] {
            let config = Live::new(Config { hostname: hostname.parse().unwrap(), ..Config::for_tests() });
            let attempts = Attempts::new(&config, Arc::default(), Clock::system()).unwrap();
            for opened in [1, 0] {
                let finished = attempts.run(&burst, &mut home).await;
                assert_eq!(finished, Finished { opened, keeps: Keeps::Connection });
                assert_eq!(attempts.kept_connections(), 1);
            }
            attempts.goodbyes().await;
            assert_eq!(attempts.kept_connections(), 0);
        }
        assert_eq!((home.0.len(), peer.count()), (4, 4));
        assert_eq!(*hellos.lock(), ["EHLO mx1.example.org", "EHLO mx2.example.org"]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_connection_that_its_burst_gives_up_has_ended_when_that_is_said() {
        let peer = Peer::willing();
        let attempts =
            Attempts::new(&Live::new(Config::for_tests()), Arc::default(), Clock::system()).unwrap();
        let burst = Burst { then: Keeps::Nothing, ..burst_to(&peer) };
        for _ in 0..2 {
            let finished = attempts.run(&burst, &mut Far::default()).await;
            assert_eq!(finished, Finished { opened: 1, keeps: Keeps::Nothing });
        }
        assert_eq!((attempts.kept_connections(), peer.count()), (0, 2));
        assert_eq!((peer.connections(), peer.most_connections()), (2, 1));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_must_not_be_sent_to_its_end_is_said_to_be_unsent() {
        let peer = Peer::willing();
        let burst = burst_to(&peer);
        let attempts =
            Attempts::new(&Live::new(Config::for_tests()), Arc::default(), Clock::system()).unwrap();
        for answer in [Err(LeaseOver), Ok(Recipients::NONE)] {
            let mut home = Far(Vec::new(), answer);
            attempts.run(&burst, &mut home).await;
            assert!(matches!(&home.0[..], [tried] if tried.is_unsent()), "{:?}", home.0);
        }
        assert_eq!(peer.count(), 0);
    }
}
