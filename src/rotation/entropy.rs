//! How many bits of chance a value can hold at most: an estimate from the outside, which finds
//! weak values and never proves a strong one.
//!
//! Each character counts as much as the alphabet that the value is written in gives; one that its
//! neighbours foretell (a run, a sequence, a piece that was there before) counts nothing, unless
//! there are so few of them that chance explains them.

use std::collections::BTreeSet;

/// The length of a piece that, seen again, foretells its characters.
const PIECE: usize = 4;
/// One character in so many may be foretold by chance.
const BY_CHANCE: usize = 16;
/// Fewer different characters than this are few.
const FEW: u32 = 12;

/// The bits, rounded down.
pub(super) fn bits(value: &[u8]) -> u32 {
    let each = f64::from(alphabet(value)).log2();
    let count = u32::try_from(surprises(value)).unwrap_or(u32::MAX);
    let distinct = value.iter().collect::<BTreeSet<_>>().len();
    // A value of few characters, such as of ones and noughts, does not use its alphabet.
    let few = u32::try_from(distinct).ok().filter(|distinct| *distinct < FEW);
    let each = few.map_or(each, |few| each.min(f64::from(few).log2() + 1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is rounded")]
    let bits = (each * f64::from(count)).max(0.0) as u32;
    bits
}

/// The size of the smallest usual alphabet that has all characters of the value.
fn alphabet(value: &[u8]) -> u32 {
    let all = |which: fn(&u8) -> bool| value.iter().all(which);
    if all(u8::is_ascii_digit) {
        10
    } else if all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        || all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
    {
        16
    } else if all(u8::is_ascii_lowercase) || all(u8::is_ascii_uppercase) {
        26
    } else if all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        || all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    {
        36
    } else if all(u8::is_ascii_alphanumeric) {
        62
    } else if all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'+' | b'/' | b'=')) {
        64
    } else if all(u8::is_ascii_graphic) {
        94
    } else {
        256
    }
}

/// The characters that their neighbours don't foretell.
fn surprises(value: &[u8]) -> usize {
    let mut seen = BTreeSet::new();
    let mut foretold = 0;
    let mut foretold_until = 0;
    for (at, byte) in value.iter().enumerate() {
        if let Some(piece) = value.get(at..at + PIECE)
            && !seen.insert(piece)
        {
            foretold_until = at + PIECE;
        }
        let before = |n: usize| at.checked_sub(n).and_then(|i| value.get(i)).copied();
        let step = |a: Option<u8>, b: Option<u8>| Some(i16::from(b?) - i16::from(a?));
        let is_run = match (step(before(2), before(1)), step(before(1), Some(*byte))) {
            (Some(one), Some(other)) => one == other && one.abs() <= 1,
            _ => false,
        };
        if at < foretold_until || is_run {
            foretold += 1;
        }
    }
    if foretold <= PIECE.max(value.len() / BY_CHANCE) {
        value.len()
    } else {
        value.len() - foretold
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::rotation::generate;

    #[test]
    fn values_made_of_chance_count_in_full() {
        for length in [32, 48, 64] {
            for _ in 0..200 {
                let bytes = generate::bytes(length).unwrap();
                let text = URL_SAFE_NO_PAD.encode(bytes.expose());
                let found = bits(text.as_bytes());
                // Without one of the two marks a text passes for one of letters and digits.
                let least = f64::from(u32::try_from(text.len()).unwrap()) * 62_f64.log2();
                assert!(f64::from(found) >= least.floor(), "{found} bits of {length} bytes");
            }
        }
    }

    #[test]
    fn values_that_people_make_up_do_not() {
        for weak in [
            "changeme",
            "changemechangemechangemechangemechangemechangemechangeme",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "0123456789012345678901234567890123456789012345678901234567890123",
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
            "my-super-secret-jwt-signing-key-2024",
            "00000000000000000000000000000001",
            "",
        ] {
            assert!(bits(weak.as_bytes()) < 256, "{weak}: {}", bits(weak.as_bytes()));
        }
    }
}
