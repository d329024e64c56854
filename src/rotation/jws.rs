//! JSON Web Signatures (RFC 7515), keys (RFC 7517) and their thumbprints (RFC 7638): as much as it
//! takes to make a key and to see that it signs what others can verify.

use aws_lc_rs::{
    digest, hmac,
    rand::SystemRandom,
    signature::{self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519},
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64URL},
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    config::operator::targets::jwt::Algorithm,
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
};

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
const PEM_LINE: usize = 64;

/// A signature of `signed` by a shared key.
pub(super) fn sign_shared(
    algorithm: Algorithm,
    key: &[u8],
    claims: &Value,
) -> Result<String, Fault> {
    let key = hmac::Key::new(shared(algorithm)?, key);
    Ok(token(algorithm, None, claims, |signed| {
        BASE64URL.encode(hmac::sign(&key, signed.as_bytes()))
    }))
}

/// Whether a shared key made the signature of a token.
pub(super) fn is_signed_by(algorithm: Algorithm, key: &[u8], token: &str) -> bool {
    let Some((signed, signature)) = split(token) else { return false };
    shared(algorithm).is_ok_and(|algorithm| {
        let key = hmac::Key::new(algorithm, key);
        hmac::verify(&key, signed.as_bytes(), &signature).is_ok()
    })
}

fn shared(algorithm: Algorithm) -> Result<hmac::Algorithm, Fault> {
    match algorithm {
        Algorithm::HS256 => Ok(hmac::HMAC_SHA256),
        Algorithm::HS384 => Ok(hmac::HMAC_SHA384),
        Algorithm::HS512 => Ok(hmac::HMAC_SHA512),
        Algorithm::ES256 | Algorithm::EdDsa => {
            Err(Fault::new(Reason::Invalid, "the algorithm has no shared key"))
        }
    }
}

/// A pair of keys that signs tokens.
pub(super) enum Pair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    /// Makes a new one.
    pub(super) fn generate(algorithm: Algorithm) -> Result<Self, Fault> {
        let failed = |_| Fault::new(Reason::Failed, "no key could be made");
        if algorithm == Algorithm::ES256 {
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
                .map(Self::Ecdsa)
                .map_err(failed)
        } else {
            Ed25519KeyPair::generate().map(Self::Ed25519).map_err(failed)
        }
    }

    /// Reads the PEM of PKCS#8; `None` when it is none, or of another algorithm.
    pub(super) fn read(algorithm: Algorithm, pem: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(pem).ok()?.trim();
        let body = text.strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?;
        let body = Zeroizing::new(body.split_ascii_whitespace().collect::<String>());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
        if algorithm == Algorithm::ES256 {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der);
            pair.ok().map(Self::Ecdsa)
        } else {
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).ok().map(Self::Ed25519)
        }
    }

    /// The PEM of PKCS#8, version 1, which all libraries read.
    pub(super) fn pem(&self) -> Result<SecretValue, Fault> {
        let der = match self {
            Self::Ecdsa(pair) => pair.to_pkcs8v1(),
            Self::Ed25519(pair) => pair.to_pkcs8v1(),
        };
        let der = der.map_err(|_| Fault::new(Reason::Failed, "the key can't be written"))?;
        let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
        // Room for all of it, since a buffer that grows leaves copies behind.
        let room = PEM_BEGIN.len() + PEM_END.len() + body.len() + body.len() / PEM_LINE + 4;
        let mut pem = Vec::with_capacity(room);
        let mut line = |text: &[u8]| {
            pem.extend_from_slice(text);
            pem.push(b'\n');
        };
        line(PEM_BEGIN.as_bytes());
        body.as_bytes().chunks(PEM_LINE).for_each(&mut line);
        line(PEM_END.as_bytes());
        Ok(SecretValue::new(pem))
    }

    /// The public key as others find it in a set, with its thumbprint for a name.
    pub(super) fn public(&self) -> Jwk {
        match self {
            Self::Ecdsa(pair) => {
                // An uncompressed point: 4, x, y.
                let point = pair.public_key().as_ref().get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                let (x, y) = (BASE64URL.encode(x), BASE64URL.encode(y));
                let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                let rest = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
                Jwk::named(&canonical, Algorithm::ES256, rest)
            }
            Self::Ed25519(pair) => {
                let x = BASE64URL.encode(pair.public_key());
                let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
                let rest = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
                Jwk::named(&canonical, Algorithm::EdDsa, rest)
            }
        }
    }

    /// A token.
    pub(super) fn sign(&self, kid: &str, claims: &Value) -> Result<String, Fault> {
        let (algorithm, random) = match self {
            Self::Ecdsa(_) => (Algorithm::ES256, SystemRandom::new()),
            Self::Ed25519(_) => (Algorithm::EdDsa, SystemRandom::new()),
        };
        let mut failed = false;
        let token = token(algorithm, Some(kid), claims, |signed| {
            let signature = match self {
                Self::Ecdsa(pair) => pair.sign(&random, signed.as_bytes()).ok(),
                Self::Ed25519(pair) => pair.try_sign(signed.as_bytes()).ok(),
            };
            failed = signature.is_none();
            signature.map(|signature| BASE64URL.encode(signature)).unwrap_or_default()
        });
        if failed {
            return Err(Fault::new(Reason::Failed, "the key does not sign"));
        }
        Ok(token)
    }
}

/// A public key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Jwk {
    /// Its name.
    pub(super) kid: String,
    json: Value,
}

impl Jwk {
    fn named(canonical: &str, algorithm: Algorithm, mut json: Value) -> Self {
        let kid = BASE64URL.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        if let Some(object) = json.as_object_mut() {
            object.insert("use".into(), "sig".into());
            object.insert("alg".into(), algorithm.to_string().into());
            object.insert("kid".into(), kid.clone().into());
        }
        Self { kid, json }
    }

    /// Whether it verifies the signature of a token.
    pub(super) fn verifies(&self, token: &str) -> bool {
        let Some((signed, signature)) = split(token) else { return false };
        let part = |name: &str| {
            let text = self.json.get(name).and_then(Value::as_str).unwrap_or_default();
            BASE64URL.decode(text).unwrap_or_default()
        };
        let (algorithm, key): (&dyn signature::VerificationAlgorithm, _) =
            if self.json.get("kty").and_then(Value::as_str) == Some("EC") {
                (&ECDSA_P256_SHA256_FIXED, [vec![4], part("x"), part("y")].concat())
            } else {
                (&ED25519, part("x"))
            };
        let key = signature::UnparsedPublicKey::new(algorithm, key);
        key.verify(signed.as_bytes(), &signature).is_ok()
    }
}

/// A set of public keys as text.
pub(super) fn write_set(keys: &[Jwk]) -> String {
    let keys = keys.iter().map(|key| key.json.clone()).collect::<Vec<_>>();
    json!({ "keys": keys }).to_string()
}

/// The keys of a set; none when it is not one.
pub(super) fn read_set(text: &[u8]) -> Vec<Jwk> {
    let set = serde_json::from_slice::<Value>(text).unwrap_or_default();
    let keys = set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = keys.into_iter().filter_map(|json| {
        let kid = json.get("kid")?.as_str()?.to_owned();
        Some(Jwk { kid, json })
    });
    named.collect()
}

fn token(
    algorithm: Algorithm,
    kid: Option<&str>,
    claims: &Value,
    sign: impl FnOnce(&str) -> String,
) -> String {
    let mut header = json!({ "alg": algorithm.to_string(), "typ": "JWT" });
    if let (Some(kid), Some(header)) = (kid, header.as_object_mut()) {
        header.insert("kid".into(), kid.into());
    }
    let part = |json: &Value| BASE64URL.encode(json.to_string());
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = sign(&signed);
    format!("{signed}.{signature}")
}

/// What a token signs, and its signature.
fn split(token: &str) -> Option<(&str, Vec<u8>)> {
    let (signed, signature) = token.rsplit_once('.')?;
    Some((signed, BASE64URL.decode(signature).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_signed_as_it_says() {
        // RFC 7515, appendix A.1, with the header as it is written there.
        let key = BASE64URL
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .unwrap();
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert!(is_signed_by(Algorithm::HS256, &key, token));
        assert!(!is_signed_by(Algorithm::HS256, b"another", token));
        assert!(!is_signed_by(Algorithm::HS512, &key, token));
    }

    #[test]
    fn the_thumbprint_of_the_standard_is_found() {
        // RFC 8037, appendix A.3.
        let canonical =
            r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let jwk = Jwk::named(canonical, Algorithm::EdDsa, json!({}));
        assert_eq!(jwk.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn pairs_survive_their_text_and_sign_what_their_public_half_verifies() {
        for algorithm in [Algorithm::ES256, Algorithm::EdDsa] {
            let pair = Pair::generate(algorithm).unwrap();
            let again = Pair::read(algorithm, pair.pem().unwrap().expose()).unwrap();
            assert_eq!(pair.public(), again.public());
            let token = again.sign(&pair.public().kid, &json!({ "sub": "probe" })).unwrap();
            let set = read_set(write_set(&[pair.public()]).as_bytes());
            assert!(set[0].verifies(&token), "{algorithm}");
            let other = Pair::generate(algorithm).unwrap();
            assert!(!other.public().verifies(&token), "{algorithm}");
            assert!(Pair::read(algorithm, b"-----BEGIN PRIVATE KEY-----").is_none());
        }
        let pem = Pair::generate(Algorithm::ES256).unwrap().pem().unwrap();
        assert!(Pair::read(Algorithm::EdDsa, pem.expose()).is_none(), "of another algorithm");
    }
}
