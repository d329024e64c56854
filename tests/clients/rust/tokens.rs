//! Tokens over rotations of their key.

use secret_broker_client::jwt::Tokens;
use serde_json::{Value, json};

use super::{client, soon};
use crate::{control::Controlled, harness::Tests};

pub fn add(tests: &mut Tests) {
    tests.add("rust_tokens_stay_good_over_a_rotation_of_their_key", over_a_rotation);
}

async fn over_a_rotation() {
    let rig = Controlled::start().await;
    let live = client(&rig).live("JWT").await.expect("a handle");
    let tokens = Tokens::new(live.clone());
    let claims = json!({ "sub": "somebody" });
    let before = tokens.sign(&claims).expect("a token");
    assert_eq!(tokens.verify::<Value>(&before).expect("claims"), claims);
    // What another service signs that has heard of the rotation already.
    let ahead = Client::signing_with(live.current().field("next").expect("a next key"));
    assert!(tokens.verify::<Value>(&ahead).is_ok(), "the next key verifies");
    let generation = rig.rotate("JWT").await;
    soon("the new key", live.after(generation - 1)).await;
    assert!(tokens.verify::<Value>(&before).is_ok(), "the key before verifies");
    assert!(tokens.verify::<Value>(&ahead).is_ok(), "the next key has become the key");
    let stranger = Client::signing_with(b"a key that is nobody's at all, really");
    assert!(tokens.verify::<Value>(&stranger).is_err());
    let expired = tokens.sign(&json!({ "exp": 1_000_000_000 })).expect("a token");
    assert!(tokens.verify::<Value>(&expired).is_err());
    let (unsigned, _) = before.rsplit_once('.').expect("a token");
    assert!(tokens.verify::<Value>(&format!("{unsigned}.")).is_err());
}

/// Another service.
struct Client;

impl Client {
    fn signing_with(key: &[u8]) -> String {
        crate::token::sign(&json!({ "sub": "elsewhere" }), key)
    }
}
