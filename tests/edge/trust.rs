//! Whom the broker lets in, and that it goes on for others when it does not.

use rcgen::SanType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    caller::Caller,
    pki::{Authority, expired},
    rig::Rig,
    support::until,
};

/// What a peer gets to read, after TLS and a preface of HTTP/2; nothing when it is sent away.
async fn read_after_preface(caller: &Caller, config: rustls::ClientConfig) -> Vec<u8> {
    let Ok(mut stream) = caller.connect(config).await else { return Vec::new() };
    let mut read = Vec::new();
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // With TLS 1.3 a client learns of its refusal by the first read.
    let _ = stream.read_buf(&mut read).await;
    read
}

#[tokio::test]
async fn a_caller_with_a_certificate_of_the_authority_is_let_in() {
    let rig = Rig::start().await;
    assert_eq!(rig.caller().value().await, "first");
    let record = rig.broker.audit().pop().unwrap();
    assert_eq!(record["caller"], crate::pki::API);
    let caller = rig.caller();
    let read = read_after_preface(&caller, caller.speaking(&rustls::version::TLS13)).await;
    assert!(!read.is_empty(), "the preface is answered");
}

#[tokio::test]
async fn callers_that_cannot_be_trusted_are_refused_and_others_are_served_on() {
    let rig = Rig::start().await;
    let good = rig.caller();
    let stranger = Authority::new("another authority").client();
    let old = rig.authority.client_with(expired);
    let nameless = rig.authority.client_with(|params| {
        params.subject_alt_names = vec![SanType::Rfc822Name("a@example.org".try_into().unwrap())];
    });
    for (leaf, why) in [
        (stranger, "a stranger's certificate"),
        (old, "an expired certificate"),
        (nameless, "a certificate without a usable name"),
        (rig.authority.server(), "a certificate that is not for clients"),
    ] {
        let refused = rig.caller_as(&leaf).get().await;
        assert!(refused.is_err(), "{why}");
        assert_eq!(good.value().await, "first", "after {why}");
    }
    let before = rig.recorded();
    assert!(read_after_preface(&good, good.anonymous()).await.is_empty(), "no certificate");
    let old_tls = good.speaking(&rustls::version::TLS12);
    assert!(good.connect(old_tls).await.is_err(), "TLS 1.2");
    let mut plain = tokio::net::TcpStream::connect(good.address()).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP") && answer.len() < 16, "a TLS alert at most: {answer:?}");
    assert_eq!(rig.recorded(), before, "none of them came as far as a call");
    assert_eq!(good.value().await, "first");
}

#[tokio::test]
async fn a_caller_that_no_grant_names_learns_nothing() {
    let rig = Rig::start().await;
    let other = rig.authority.client_with(|params| {
        let id = "spiffe://test/ns/shop/sa/other".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(id)];
    });
    let client = rig.caller_as(&other).client();
    let known = client.get("KEY").await.unwrap_err().to_string();
    let unknown = client.get("KEX").await.unwrap_err().to_string();
    assert_eq!(known, unknown, "unknown and forbidden look the same");
    assert!(rig.broker.audit().iter().all(|record| record["outcome"] == "denied"));
}

#[tokio::test]
async fn a_revoked_caller_is_refused_and_an_open_connection_of_it_ends() {
    let rig = Rig::with("", true).await;
    let leaf = rig.authority.client_with(|params| params.serial_number = Some(77_u64.into()));
    let revoked = rig.caller_as(&leaf);
    let good = rig.caller();
    let before = revoked.client();
    assert!(before.get("KEY").await.is_ok());
    let mut stream = revoked.connect(revoked.speaking(&rustls::version::TLS13)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    crate::pki::put(&rig.directory(), "crl.pem", &rig.authority.revoke(&[77]));
    until("the revoked caller is refused", async || revoked.get().await.err()).await;
    until("its open connection ends", async || {
        let mut bytes = [0; 512];
        matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)).then_some(())
    })
    .await;
    assert!(before.get("KEY").await.is_err());
    assert_eq!(good.value().await, "first");
}
