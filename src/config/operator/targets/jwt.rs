//! The settings of the rotator `jwt`.
//!
//! Verifiers know a key before anything is signed with it, and as long as something that it signed
//! may be presented:
//! `publish_at + max_verifier_cache <= sign_at` and
//! `revoke_at >= sign_at + max_token_ttl + clock_skew + max_verifier_cache`.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};
use crate::config::units::{Count, Span, days, hours, mins, secs, show};

/// The settings as people write them.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// The algorithm of JSON Web Signatures. The `HS` ones have the fields `value`, which signs, and `next`, which is
    /// accepted already and signs after the next rotation. `ES256` and `EdDSA` have `private_key`, `kid`, `jwks`
    /// (the public keys) and `next_private_key`.
    pub algorithm: Algorithm,
    /// `HS256`, `HS384`, `HS512`: how many random bytes a key has; at least as many as the algorithm's digest.
    pub entropy_bytes: Count<64, 32, 256>,
    /// The longest life of a token.
    pub max_token_ttl: Span<{ hours(1) }, { secs(1) }, { days(366) }>,
    /// How far the clocks of those who sign and those who verify may be apart.
    pub clock_skew: Span<{ mins(1) }, 0, { hours(1) }>,
    /// How long those who verify use the keys that they know before they look again.
    pub max_verifier_cache: Span<{ mins(5) }, 0, { days(30) }>,
}

/// An algorithm of JSON Web Signatures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// The least bytes of a shared key; `None` where a pair of keys signs.
    pub const fn least_bytes(self) -> Option<usize> {
        match self {
            Self::HS256 => Some(32),
            Self::HS384 => Some(48),
            Self::HS512 => Some(64),
            Self::ES256 | Self::EdDsa => None,
        }
    }
}

impl fmt::Display for Algorithm {
    /// The name in a token's header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::ES256 => "ES256",
            Self::EdDsa => "EdDSA",
        })
    }
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The random bytes of a shared key.
    pub entropy_bytes: usize,
    /// The longest life of a token.
    pub max_token_ttl: Duration,
    /// How far clocks may be apart.
    pub clock_skew: Duration,
    /// How long verifiers use what they know.
    pub max_verifier_cache: Duration,
}

impl Jwt {
    /// The least time that a key is accepted after another one took its place.
    pub fn least_overlap(&self) -> Duration {
        self.max_token_ttl.saturating_add(self.clock_skew).saturating_add(self.max_verifier_cache)
    }

    /// The least time between two rotations: the key of the next one is published by this one.
    pub fn least_interval(&self) -> Duration {
        self.max_verifier_cache
    }
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Jwt> {
    let Raw { algorithm, entropy_bytes, max_token_ttl, clock_skew, max_verifier_cache } = raw;
    let choice = algorithm.to_string();
    check.only(key, &choice, &[("entropy_bytes", &["HS256", "HS384", "HS512"])]);
    let entropy_bytes = entropy_bytes.size();
    if let Some(least) = algorithm.least_bytes().filter(|least| entropy_bytes < *least) {
        let accepted = format!("expected at least {least} for algorithm = \"{algorithm}\"");
        check.wrong(key.name("entropy_bytes"), format!("{entropy_bytes} bytes"), accepted);
        return None;
    }
    Some(Jwt {
        algorithm,
        entropy_bytes,
        max_token_ttl: max_token_ttl.duration(),
        clock_skew: clock_skew.duration(),
        max_verifier_cache: max_verifier_cache.duration(),
    })
}

/// Refuses an overlap, or a time between rotations, in which tokens would not verify. `overlap`
/// and `interval` each come with the key that sets them.
pub(in crate::config::operator) fn fits(
    check: &mut Check<'_>,
    jwt: &Jwt,
    overlap: (&Key, Duration),
    interval: Option<(&Key, Duration)>,
) {
    let text = |time: Duration| show(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let (key, overlap) = overlap;
    if overlap < jwt.least_overlap() {
        let accepted = format!(
            "expected at least {}: rotate.jwt.max_token_ttl + clock_skew + max_verifier_cache",
            text(jwt.least_overlap())
        );
        check.wrong(key.clone(), format!("an overlap of {}", text(overlap)), accepted);
    }
    if let Some((key, interval)) = interval
        && interval < jwt.least_interval()
    {
        let accepted = format!(
            "expected at least {}: rotate.jwt.max_verifier_cache",
            text(jwt.least_interval())
        );
        check.wrong(key.clone(), format!("a rotation every {}", text(interval)), accepted);
    }
}
