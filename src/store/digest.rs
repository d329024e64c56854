//! Versions for values that have none at their store.
//!
//! A version is seen by callers and stands in records, so it must not let anybody test a guess of
//! the value: the digest is keyed with a key that lives as long as the process.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::{hmac, rand::SystemRandom};

use crate::domain::secret::{Fields, Version};

/// Bytes of the digest that a version shows.
const SHOWN: usize = 8;

#[expect(clippy::expect_used, reason = "without randomness nothing in this process is safe")]
static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).expect("the system's randomness")
});

/// The version of a value: equal for equal fields, within one process.
pub(super) fn of_fields(fields: &Fields) -> Version {
    let mut context = hmac::Context::with_key(&KEY);
    for (name, value) in fields.iter() {
        for part in [name.as_bytes(), value.expose()] {
            context.update(&part.len().to_le_bytes());
            context.update(part);
        }
    }
    hex(context.sign().as_ref())
}

/// The version that a lease's name stands for.
pub(super) fn of_lease(id: &str) -> Version {
    hex(hmac::sign(&KEY, id.as_bytes()).as_ref())
}

fn hex(digest: &[u8]) -> Version {
    let text = digest.iter().take(SHOWN).map(|b| format!("{b:02x}")).collect::<String>();
    Version(Arc::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::SecretValue;

    fn fields(parts: &[(&str, &str)]) -> Fields {
        parts.iter().map(|(n, v)| ((*n).to_owned(), SecretValue::new(*v))).collect()
    }

    #[test]
    fn versions_tell_values_apart() {
        let one = of_fields(&fields(&[("a", "1"), ("b", "2")]));
        assert_eq!(one, of_fields(&fields(&[("b", "2"), ("a", "1")])));
        assert_ne!(one, of_fields(&fields(&[("a", "1"), ("b", "3")])));
        assert_ne!(one, of_fields(&fields(&[("a", "12"), ("b", "")])));
    }
}
