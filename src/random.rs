//! Random text from the one provider of cryptography.
//!
//! Each character is as likely as any other; what is drawn and not used is wiped.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::domain::fault::{Fault, Reason};

/// The characters of all that is made up: nothing that a shell, a URL or a configuration reads as
/// anything but itself. Each carries 5.95 bits.
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Adds random letters and digits.
///
/// # Errors
/// When the system gives no random bytes.
pub fn push_characters(text: &mut Vec<u8>, length: usize) -> Result<(), Fault> {
    // The bytes above the last whole multiple of the alphabet would favour its first characters.
    const FAIR: u8 = 248;
    let wanted = text.len() + length;
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < wanted {
        fill(bytes.as_mut())?;
        let fair = bytes.iter().filter(|&&byte| byte < FAIR);
        let characters = fair.filter_map(|&byte| ALPHABET.get(usize::from(byte) % ALPHABET.len()));
        let room = wanted - text.len();
        text.extend(characters.take(room));
    }
    Ok(())
}

/// Fills a buffer with random bytes.
///
/// # Errors
/// When the system gives none.
pub fn fill(bytes: &mut [u8]) -> Result<(), Fault> {
    rand::fill(bytes).map_err(|_| Fault::new(Reason::Failed, "the system gave no random bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_as_likely_as_any_other() {
        let mut text = Vec::new();
        push_characters(&mut text, 62_000).unwrap();
        assert_eq!(text.len(), 62_000);
        for character in ALPHABET {
            let count = text.split(|c| c == character).count() - 1;
            assert!((800..1200).contains(&count), "{}: {count}", char::from(*character));
        }
    }
}
