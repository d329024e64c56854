//! New values, for all rotators that make theirs themselves.

use zeroize::Zeroizing;

use crate::{
    domain::{fault::Fault, secret::SecretValue},
    random,
};

/// Random letters and digits after a prefix; `length` counts the random ones, of 5.95 bits each.
///
/// # Errors
/// When the system gives no random bytes.
pub fn characters(prefix: &str, length: usize) -> Result<SecretValue, Fault> {
    // Room for all of it, since a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + length));
    text.extend_from_slice(prefix.as_bytes());
    random::push_characters(&mut text, length)?;
    Ok(SecretValue::new(text.as_slice()))
}

/// Random bytes.
///
/// # Errors
/// When the system gives none.
pub fn bytes(length: usize) -> Result<SecretValue, Fault> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    random::fill(&mut bytes)?;
    Ok(SecretValue::new(bytes.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_its_prefix_and_its_length_and_is_never_made_twice() {
        let (one, other) = (characters("sk_", 40).unwrap(), characters("sk_", 40).unwrap());
        assert!(one.expose().starts_with(b"sk_"));
        assert_eq!(one.expose().len(), 43);
        assert!(one.expose().iter().skip(3).all(u8::is_ascii_alphanumeric));
        assert!(one != other);
        assert!(bytes(32).unwrap() != bytes(32).unwrap());
    }
}
