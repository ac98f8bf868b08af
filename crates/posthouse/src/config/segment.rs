//! The size of a segment of the spool.

use std::{fmt, str::FromStr};

use base::ByteSize;
use serde::{Deserialize, Serialize};

/// The smallest: the largest body that goes into a segment fits several times.
const MIN: ByteSize = ByteSize::mib(4);
/// The largest: places in a segment are counted in 32 bits.
const MAX: ByteSize = ByteSize::mib(1024);

/// How long a segment is, from 4 MiB to 1 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentSize(ByteSize);

impl SegmentSize {
    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.0.len()
    }
}

impl Default for SegmentSize {
    fn default() -> Self {
        Self(ByteSize::mib(64))
    }
}

impl FromStr for SegmentSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse().map_err(|e: base::SizeError| e.to_string())?;
        if (MIN..=MAX).contains(&size) {
            return Ok(Self(size));
        }
        Err(format!("a segment of {size} is not possible: write a size from {MIN} to {MAX}"))
    }
}

impl TryFrom<String> for SegmentSize {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SegmentSize> for String {
    fn from(size: SegmentSize) -> Self {
        size.to_string()
    }
}

impl fmt::Display for SegmentSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_room_and_its_places_can_be_counted() {
        assert_eq!("4MiB".parse::<SegmentSize>().unwrap().bytes(), 4 << 20);
        assert_eq!("1GiB".parse::<SegmentSize>().unwrap().bytes(), 1 << 30);
        for text in ["0", "1KiB", "4194303", "2GiB"] {
            let error = text.parse::<SegmentSize>().unwrap_err();
            assert!(error.ends_with("not possible: write a size from 4MiB to 1GiB"), "{error}");
        }
    }
}
