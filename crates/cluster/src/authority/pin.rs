//! The pin: what a node knows the cluster's authority by.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// SHA-256 of an authority's SubjectPublicKeyInfo (as RFC 7469, section 2.4, does it); as text `sha256:` and 64
/// hexadecimal digits. It stays when the authority's certificate is made again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pin([u8; 32]);

impl Pin {
    /// The pin of a SubjectPublicKeyInfo in DER.
    pub(crate) fn of_spki(spki: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(pin)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Pin> for String {
    fn from(pin: Pin) -> Self {
        pin.to_string()
    }
}

/// The text is not a pin. Each is one plain line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// It does not begin as one.
    #[error("that is not a pin: a pin is `sha256:` and 64 hexadecimal digits, as the manager shows it")]
    Other,
    /// Its end is missing.
    #[error("the pin is cut short: it has {0} hexadecimal digits of 64; paste the whole of it")]
    Short(usize),
    /// There is more than a pin.
    #[error("the pin is too long: it has {0} letters after `sha256:` and not 64")]
    Long(usize),
    /// A letter is none of 0-9 and a-f.
    #[error(
        "the pin has a letter in it that is no hexadecimal digit, at place {0} after `sha256:`; paste it again"
    )]
    Letter(usize),
}

impl TryFrom<String> for Pin {
    type Error = PinError;

    fn try_from(text: String) -> Result<Self, PinError> {
        text.parse()
    }
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Self, PinError> {
        let text = text.trim();
        let Some(digits) = text.strip_prefix(PREFIX) else {
            // A paste may end before the digits begin.
            let cut = !text.is_empty() && PREFIX.starts_with(text);
            return Err(if cut { PinError::Short(0) } else { PinError::Other });
        };
        if let Some(place) = digits.chars().position(|letter| !letter.is_ascii_hexdigit()) {
            return Err(PinError::Letter(place + 1));
        }
        let (pairs, odd) = digits.as_bytes().as_chunks::<2>();
        match digits.len() {
            64 if odd.is_empty() => {}
            length if length < 64 => return Err(PinError::Short(length)),
            length => return Err(PinError::Long(length)),
        }
        let mut pin = [0; 32];
        for (byte, [high, low]) in pin.iter_mut().zip(pairs) {
            *byte = value(*high) << 4 | value(*low);
        }
        Ok(Self(pin))
    }
}

/// What an ASCII hexadecimal digit stands for.
fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

/// What a pin begins with.
const PREFIX: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_survives_its_text() {
        let pin = Pin::of_spki(b"abc");
        // FIPS 180-4's example.
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(pin.to_string(), text);
        assert_eq!(text.parse(), Ok(pin));
        assert_eq!(format!(" sha256:{} \n", text[7..].to_uppercase()).parse(), Ok(pin));
    }

    #[test]
    fn a_text_that_is_no_pin_says_what_is_wrong_with_it() {
        let text = Pin::of_spki(b"abc").to_string();
        for (text, error) in [
            ("", PinError::Other),
            (&text[7..], PinError::Other),
            ("sha2", PinError::Short(0)),
            ("sha256:", PinError::Short(0)),
            (&text[..text.len() - 1], PinError::Short(63)),
            (&format!("{text}0"), PinError::Long(65)),
            (&text.replace('8', "é"), PinError::Letter(4)),
        ] {
            assert_eq!(text.parse::<Pin>(), Err(error.clone()), "{text}");
            assert!(!error.to_string().contains('\n'));
        }
        let error = text[..30].parse::<Pin>().unwrap_err().to_string();
        assert!(error.starts_with("the pin is cut short: it has 23 hexadecimal digits of 64"), "{error}");
    }
}
