//! `[cluster]`: the node among others.

use std::{fmt, time::Duration};

use base::{ByteSize, HumanDuration, NextHop};
use clap::ValueEnum;
use cluster::{authority, membership::Timing, placement::Policy};
use serde::{Deserialize, Serialize};

use super::{Count, ListenAddress, bounds, log::one_of};

/// What the node is to others, and how they work together. What concerns all nodes counts at the manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cluster {
    /// What the node is.
    pub role: Role,
    /// The address on which a manager lets its nodes in.
    pub listen: ListenAddress,
    /// A worker's manager.
    pub manager: Option<ManagerAddress>,
    /// What the manager's authority is known by.
    pub pin: Option<Pin>,
    /// How long a worker's client waits for the manager's answer.
    #[serde(deserialize_with = "bounds::held_reply")]
    pub hold: HumanDuration,
    /// How many works the node has at once.
    #[serde(deserialize_with = "bounds::credit_works")]
    pub credit_works: Count,
    /// How many bytes of them.
    #[serde(deserialize_with = "bounds::credit_bytes")]
    pub credit_bytes: ByteSize,
    /// How many bytes of what it took in a worker keeps in memory.
    #[serde(deserialize_with = "bounds::free")]
    pub cache: ByteSize,
    /// Which node gets what may go.
    pub placement: Policy,
    /// Who attempts works.
    pub attempts: Attempts,
    /// What becomes of what a lost node may have delivered.
    pub after_loss: AfterLoss,
    /// How often a node gives a sign of life.
    #[serde(deserialize_with = "bounds::liveness")]
    pub heartbeat: HumanDuration,
    /// After so much silence a node is granted nothing more.
    #[serde(deserialize_with = "bounds::liveness")]
    pub suspect: HumanDuration,
    /// After so much silence what it has goes to others.
    #[serde(deserialize_with = "bounds::liveness")]
    pub gone: HumanDuration,
    /// How long a worker may work after the last sign that was answered.
    #[serde(deserialize_with = "bounds::liveness")]
    pub lease: HumanDuration,
    /// How long a node that was silent is steady before it is granted anything.
    #[serde(deserialize_with = "bounds::liveness")]
    pub steady: HumanDuration,
    /// So many nodes that fall silent together freeze takeover.
    #[serde(deserialize_with = "bounds::members")]
    pub freeze_lost: Count,
    /// With fewer members than this nothing freezes it.
    #[serde(deserialize_with = "bounds::members")]
    pub freeze_members: Count,
    /// How far apart "together" may be.
    #[serde(deserialize_with = "bounds::liveness")]
    pub freeze_within: HumanDuration,
    /// How long takeover is frozen at most.
    #[serde(deserialize_with = "bounds::freeze")]
    pub freeze_for: HumanDuration,
}

/// The port of a manager.
const PORT: u16 = 7025;

impl Default for Cluster {
    fn default() -> Self {
        let Timing { heartbeat, suspect, gone, lease, steady, freeze_within, freeze_for, .. } =
            Timing::default();
        Self {
            role: Role::default(),
            listen: ListenAddress::loopback(PORT),
            manager: None,
            pin: None,
            hold: HumanDuration(Duration::from_secs(60)),
            credit_works: Count::new(1000),
            credit_bytes: ByteSize::mib(256),
            cache: ByteSize::mib(64),
            placement: Policy::default(),
            attempts: Attempts::default(),
            after_loss: AfterLoss::Resend(HumanDuration(Duration::from_secs(15 * 60))),
            heartbeat: HumanDuration(heartbeat),
            suspect: HumanDuration(suspect),
            gone: HumanDuration(gone),
            lease: HumanDuration(lease),
            steady: HumanDuration(steady),
            freeze_lost: Count::new(3),
            freeze_members: Count::new(4),
            freeze_within: HumanDuration(freeze_within),
            freeze_for: HumanDuration(freeze_for),
        }
    }
}

impl Cluster {
    /// What silence means.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing {
            heartbeat: self.heartbeat.0,
            suspect: self.suspect.0,
            gone: self.gone.0,
            lease: self.lease.0,
            steady: self.steady.0,
            freeze_lost: self.freeze_lost.size(),
            freeze_members: self.freeze_members.size(),
            freeze_within: self.freeze_within.0,
            freeze_for: self.freeze_for.0,
        }
    }

    /// Whether its keys go together, and with the longest message that the node takes.
    ///
    /// # Errors
    /// One plain line that says which do not.
    pub fn check(&self, longest: ByteSize) -> Result<(), String> {
        if self.role == Role::Worker {
            if self.manager.is_none() {
                return Err(
                    "a worker needs its manager's address: --manager HOST:PORT, or cluster.manager".into()
                );
            }
            if self.pin.is_none() {
                return Err(
                    "a worker needs its manager's pin: --pin, or cluster.pin; the manager shows it with `posthouse identity show`"
                        .into(),
                );
            }
        } else {
            let of_a_worker = [("manager", self.manager.is_some()), ("pin", self.pin.is_some())];
            if let Some((key, _)) = of_a_worker.iter().find(|(_, is_given)| *is_given) {
                return Err(format!(
                    "cluster.{key} is of no use to {}: set cluster.role to \"worker\", or leave it out",
                    self.role.words()
                ));
            }
        }
        let attempts = match self.role {
            Role::Standalone => false,
            Role::Manager => self.attempts == Attempts::Everywhere,
            Role::Worker => true,
        };
        if attempts && self.credit_bytes.0 < longest.0 {
            return Err(format!(
                "cluster.credit-bytes ({}) is less than limits.message ({longest}): a message that long would wait until this \
                 node has nothing else; raise the one, or lower the other",
                self.credit_bytes
            ));
        }
        self.timing().check().map_err(|what| format!("[cluster]: {what}"))
    }
}

/// What a node is to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(try_from = "String", rename_all = "kebab-case")]
pub enum Role {
    /// It stands alone.
    #[default]
    Standalone,
    /// It keeps the queue for its workers.
    Manager,
    /// It takes mail in and delivers for its manager.
    Worker,
}

impl Role {
    /// A node of this role, in a few words.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Standalone => "a node that stands alone",
            Self::Manager => "a manager",
            Self::Worker => "a worker",
        }
    }
}

impl TryFrom<String> for Role {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text)
    }
}

/// Who attempts works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(try_from = "String", rename_all = "kebab-case")]
pub enum Attempts {
    /// The manager as well.
    #[default]
    Everywhere,
    /// Only workers.
    Workers,
}

impl TryFrom<String> for Attempts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        one_of(&text)
    }
}

/// What becomes of what a lost node may have delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AfterLoss {
    /// It waits until somebody has it tried again, or it is learnt what became of it.
    Wait,
    /// It is attempted again after this time.
    Resend(HumanDuration),
}

impl AfterLoss {
    /// How long it waits at most.
    #[must_use]
    pub const fn time(self) -> Duration {
        match self {
            Self::Wait => Duration::MAX,
            Self::Resend(time) => time.0,
        }
    }
}

impl TryFrom<String> for AfterLoss {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "wait" {
            return Ok(Self::Wait);
        }
        let time = text.parse().map_err(|error: String| format!("{error}, or \"wait\""))?;
        bounds::resend(time).map(Self::Resend)
    }
}

impl From<AfterLoss> for String {
    fn from(after_loss: AfterLoss) -> Self {
        match after_loss {
            AfterLoss::Wait => "wait".into(),
            AfterLoss::Resend(time) => time.to_string(),
        }
    }
}

/// Where a worker finds its manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ManagerAddress(pub NextHop);

impl std::str::FromStr for ManagerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        NextHop::parse(text, PORT).map(Self)
    }
}

impl TryFrom<String> for ManagerAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ManagerAddress> for String {
    fn from(manager: ManagerAddress) -> Self {
        manager.0.to_string()
    }
}

/// What a manager's authority is known by.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin(pub authority::Pin);

impl std::str::FromStr for Pin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: authority::PinError| error.to_string())
    }
}

impl TryFrom<String> for Pin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.0.to_string()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_loss_is_a_time_or_a_wait() {
        let read = |text: &str| AfterLoss::try_from(text.to_owned());
        assert_eq!(read("wait"), Ok(AfterLoss::Wait));
        for text in ["wait", "0s", "15m", "1day"] {
            assert_eq!(String::from(read(text).unwrap()), text);
        }
        assert!(read("2days").unwrap_err().contains("write \"wait\", or a duration from 0s to 1day"));
        assert!(read("never").unwrap_err().ends_with(", or \"wait\""));
    }

    #[test]
    fn a_worker_names_its_manager_and_its_pin() {
        let longest = ByteSize::mib(50);
        let mut cluster = Cluster { role: Role::Worker, ..Cluster::default() };
        assert!(cluster.check(longest).unwrap_err().contains("--manager"));
        cluster.manager = Some("mx1.example.com:7025".parse().unwrap());
        assert!(cluster.check(longest).unwrap_err().contains("identity show"));
        cluster.pin = Some(format!("sha256:{}", "0".repeat(64)).parse().unwrap());
        assert_eq!(cluster.check(longest), Ok(()));
        for (role, words) in [(Role::Standalone, "a node that stands alone"), (Role::Manager, "a manager")] {
            let wrong = Cluster { role, ..cluster.clone() }.check(longest).unwrap_err();
            let says = format!("cluster.manager is of no use to {words}: ");
            assert!(wrong.starts_with(&says), "{wrong}");
        }
        let wrong = cluster.check(ByteSize::mib(257)).unwrap_err();
        assert!(
            wrong.starts_with("cluster.credit-bytes (256MiB) is less than limits.message (257MiB): "),
            "{wrong}"
        );
        cluster.lease = cluster.gone;
        assert!(cluster.check(longest).unwrap_err().contains("lease"));
    }

    #[test]
    fn who_writes_no_port_is_told_that_of_a_manager() {
        let wrong = |text: &str| text.parse::<ManagerAddress>().unwrap_err();
        assert_eq!(wrong("127.0.0.1"), "\"127.0.0.1\" has no port; write 127.0.0.1:7025");
        assert_eq!(wrong("mx1.example.com"), "\"mx1.example.com\" has no port; write mx1.example.com:7025");
    }
}
