//! Ids: 128 bits each, shown as 32 hexadecimal digits, so that what a log line, an SQL shell and
//! the command line print is the same text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de, ser};

use crate::Timestamp;

/// One message, or one run: a UUID of version 7 (RFC 9562, section 5.7), so ids sort by time of intake.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

impl MessageId {
    /// Makes a new id for something taken in at `now`.
    #[must_use]
    pub fn generate(now: Timestamp) -> Self {
        let millis = u128::from(now.millis() & 0xffff_ffff_ffff);
        let random = fastrand::u128(..);
        Self(millis << 80 | 7 << 76 | (random >> 4 & 0xfff) << 64 | 2 << 62 | random >> 66)
    }

    /// The id as it is stored: 16 bytes, most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id from its stored form.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The time of intake that the id carries, to the millisecond.
    #[must_use]
    pub fn time(self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.0 >> 80).expect("48 bits are left"))
    }
}

/// One work: a message's recipients at one domain, or one run. The message's id and a running number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkId {
    /// The message that this is work of.
    pub message: MessageId,
    /// Which of its works, from 0.
    pub index: u16,
}

/// One node of Posthouse, for as long as its data directory lives: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u128);

impl NodeId {
    /// Makes a new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(fastrand::u128(..))
    }

    /// The id as it is stored: 16 bytes, most significant first.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id from its stored form.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// The text is not an id.
#[derive(Debug, PartialEq, Eq)]
pub struct IdError(String);

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\"{}\" is not an id: an id is 32 hexadecimal digits, as `250` replies and lists show it",
            self.0
        )
    }
}

impl std::error::Error for IdError {}

fn parse(text: &str) -> Result<u128, IdError> {
    if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return u128::from_str_radix(text, 16).map_err(|_| IdError(text.to_owned()));
    }
    Err(IdError(text.to_owned()))
}

macro_rules! text_id {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.to_be_bytes().serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(Self::from_bytes)
                }
            }
        }
    };
}

text_id!(MessageId);
text_id!(NodeId);

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.message, self.index)
    }
}

impl fmt::Debug for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WorkId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (message, index) = text.split_once('.').ok_or_else(|| IdError(text.to_owned()))?;
        let index = index.parse().map_err(|_| IdError(text.to_owned()))?;
        Ok(Self { message: message.parse()?, index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_of_version_7_and_carries_its_time() {
        let now = Timestamp::from_millis(1_795_000_000_123);
        let id = MessageId::generate(now);
        let bytes = id.to_bytes();
        assert_eq!(bytes[6] >> 4, 7);
        assert_eq!(bytes[8] >> 6, 2);
        assert_eq!(id.time(), now);
        assert_ne!(id, MessageId::generate(now));
    }

    #[test]
    fn an_id_survives_its_text_and_a_bad_text_says_what_an_id_is() {
        let id = MessageId::generate(Timestamp::from_millis(1));
        assert_eq!(id.to_string().parse(), Ok(id));
        let work = WorkId { message: id, index: 3 };
        assert_eq!(work.to_string().parse(), Ok(work));
        let error = "no".parse::<MessageId>().unwrap_err().to_string();
        assert!(error.contains("32 hexadecimal digits"), "{error}");
    }
}
