//! From where to where each count, size and duration may go: below, a node could not do its duty;
//! above, it is a slip of the pen.
//!
//! A function for each key, which reads its value; flags are read by those of their keys.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use base::{ByteSize, HumanDuration, RetryPlan};
use serde::{
    Deserialize, Deserializer,
    de::{
        Error,
        value::{Error as TextError, StrDeserializer},
    },
};

use super::Count;

const MILLIS_100: HumanDuration = HumanDuration(Duration::from_millis(100));
const SECOND: HumanDuration = HumanDuration(Duration::from_secs(1));
const MINUTE: HumanDuration = HumanDuration(Duration::from_secs(60));
const HOUR: HumanDuration = HumanDuration(Duration::from_secs(60 * 60));
const DAY: HumanDuration = HumanDuration(Duration::from_secs(24 * 60 * 60));
/// 365.25 days, which are written as one year.
const YEAR: HumanDuration = HumanDuration(Duration::from_secs(31_557_600));

/// The least that a host may take is 64 KiB (RFC 5321, section 4.5.3.1.7).
pub(super) fn message<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize::kib(64)..=ByteSize::mib(1024))
}

/// Reports carry the header section, which is then held in memory.
pub(super) fn header<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize::kib(1)..=ByteSize::mib(16))
}

/// Lines of 78 are what every sender may count on (RFC 5322, section 2.1.1).
pub(super) fn text_line<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize(78)..=ByteSize::mib(1))
}

/// No rate at all is left to `limits.idle`.
pub(super) fn data_rate<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize(0)..=ByteSize::mib(1))
}

/// A message needs up to 1.3 MiB, before it goes on to the disk.
pub(super) fn receive_memory<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize::mib(2)..=ByteSize::mib(1 << 20))
}

/// None at all is left to the disk, which says itself when it is full.
pub(super) fn free<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize(0)..=ByteSize::mib(1 << 30))
}

/// Below, what is forgotten would be what has just been written.
pub(super) fn records<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    let size = ByteSize::deserialize(value)?;
    if size.is_empty() {
        return Ok(size);
    }
    within(size, &(ByteSize::mib(16)..=ByteSize::mib(1 << 24)), "0 for no bound, or a size")
        .map_err(Error::custom)
}

/// Each recipient may have a domain of its own, and so a work.
pub(super) fn recipients<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, u32::try_from(queue::MAX_WORKS).expect("a message has few works"))
}

pub(super) fn hops<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 1000)
}

pub(super) fn errors<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 10_000)
}

pub(super) fn sessions<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 1_000_000)
}

/// To all next hops together a node has no more.
pub(super) fn connections<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 500)
}

/// How long a client may be silent, and how long a next hop.
pub(super) fn silence<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, SECOND..=DAY)
}

/// Of whatever a rate counts, in a minute.
pub(super) fn rate<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 100_000_000)
}

/// Less than a message a minute is no rate.
pub(super) fn bytes_per_minute<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize::kib(1)..=ByteSize::mib(1 << 20))
}

/// No time at all: senders are never told.
pub(super) fn delay_warning<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, HumanDuration(Duration::ZERO)..=YEAR)
}

/// How long a client may have a message held.
pub(super) fn hold<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, SECOND..=YEAR)
}

/// How long a name server may be silent.
pub(super) fn answer<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, MILLIS_100..=MINUTE)
}

pub(super) fn expire<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, MILLIS_100..=YEAR)
}

/// `delivery.expire` as a flag.
pub(crate) fn expire_flag(text: &str) -> Result<HumanDuration, TextError> {
    expire(StrDeserializer::new(text))
}

pub(super) fn grace<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, HumanDuration(Duration::ZERO)..=HOUR)
}

/// `stop.grace` as a flag.
pub(crate) fn grace_flag(text: &str) -> Result<HumanDuration, TextError> {
    grace(StrDeserializer::new(text))
}

pub(super) fn retry<'de, D: Deserializer<'de>>(value: D) -> Result<RetryPlan, D::Error> {
    plan(Vec::deserialize(value)?).map_err(Error::custom)
}

/// The retry plan of these waits, each of which ends within a year.
pub(crate) fn plan(waits: Vec<HumanDuration>) -> Result<RetryPlan, String> {
    match waits.iter().find(|wait| **wait > YEAR) {
        Some(long) => Err(format!("a wait of {long} is not possible: the longest is {YEAR}")),
        None => RetryPlan::try_from(waits),
    }
}

/// As long as any client waits for the reply to its final dot, and less (RFC 5321, section 4.5.3.2.6).
pub(super) fn held_reply<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, SECOND..=HumanDuration(Duration::from_secs(8 * 60)))
}

pub(super) fn credit_works<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 50_000)
}

pub(super) fn credit_bytes<'de, D: Deserializer<'de>>(value: D) -> Result<ByteSize, D::Error> {
    size(value, ByteSize::mib(1)..=ByteSize::mib(1 << 20))
}

/// No time at all: it is attempted again at once.
pub(super) fn resend(time: HumanDuration) -> Result<HumanDuration, String> {
    within(time, &(HumanDuration(Duration::ZERO)..=DAY), "\"wait\", or a duration")
}

/// Between signs of life, and what follows from their absence.
pub(super) fn liveness<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, MILLIS_100..=HOUR)
}

/// No time at all: takeover is never frozen.
pub(super) fn freeze<'de, D: Deserializer<'de>>(value: D) -> Result<HumanDuration, D::Error> {
    duration(value, HumanDuration(Duration::ZERO)..=HOUR)
}

pub(super) fn members<'de, D: Deserializer<'de>>(value: D) -> Result<Count, D::Error> {
    count(value, 1000)
}

fn size<'de, D: Deserializer<'de>>(value: D, range: RangeInclusive<ByteSize>) -> Result<ByteSize, D::Error> {
    within(ByteSize::deserialize(value)?, &range, "a size").map_err(Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(
    value: D,
    range: RangeInclusive<HumanDuration>,
) -> Result<HumanDuration, D::Error> {
    within(HumanDuration::deserialize(value)?, &range, "a duration").map_err(Error::custom)
}

/// A count from one.
fn count<'de, D: Deserializer<'de>>(value: D, most: u32) -> Result<Count, D::Error> {
    let number = within(i64::deserialize(value)?, &(1..=most.into()), "a whole number");
    let number = number.map_err(Error::custom)?;
    Ok(Count::new(u32::try_from(number).expect("it is within the range")))
}

fn within<T: PartialOrd + Display>(value: T, range: &RangeInclusive<T>, what: &str) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (range.start(), range.end());
    Err(format!("{value} is not possible: write {what} from {least} to {most}"))
}
