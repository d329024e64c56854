//! Peers that say nothing, too much, or nonsense; and readers that don't read.

use std::time::Duration;

use prost::{Message, bytes::BufMut};
use secret_broker_client::{
    Event, Reason,
    proto::{GetSecretResponse, WatchSecretsRequest, secret_broker_client::SecretBrokerClient},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{caller::Caller, rig::Rig, support::until};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Resident memory in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Says this after the handshake, and waits until the broker closes the connection.
async fn told_to_go(caller: &Caller, bytes: &[u8]) {
    let mut stream = caller.connect(caller.speaking(&rustls::version::TLS13)).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut read = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read));
    let _ = closed.await.expect("the connection is closed");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes()[1..]);
    frame.put_slice(&[kind, flags]);
    frame.put_u32(stream);
    frame.put_slice(payload);
    frame
}

#[tokio::test]
async fn malformed_frames_end_their_connection_and_nothing_else() {
    let rig = Rig::start().await;
    let good = rig.caller();
    let client = good.client();
    let after_settings = |bytes: Vec<u8>| [PREFACE, SETTINGS, &bytes].concat();
    let cases = [
        ("no HTTP/2 at all", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "random bytes",
            (0..2000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect(),
        ),
        ("a frame larger than allowed", after_settings(frame(0, 0, 1, &vec![0; 70_000]))),
        ("data on a stream that is not open", after_settings(frame(0, 1, 7, b"x"))),
        ("headers that can't be unpacked", after_settings(frame(1, 5, 1, &[0xff; 64]))),
        ("settings of a wrong size", after_settings(frame(4, 0, 0, b"abc"))),
        ("a window that overflows", after_settings(frame(8, 0, 0, &0x7fff_ffff_u32.to_be_bytes()))),
        ("a preface and then silence", [PREFACE, SETTINGS].concat()),
    ];
    for (what, bytes) in cases {
        told_to_go(&good, &bytes).await;
        assert!(client.get("KEY").await.is_ok(), "after {what}");
        assert_eq!(good.value().await, "first", "on a new connection after {what}");
    }
}

#[tokio::test]
async fn messages_that_are_too_large_or_no_messages_are_refused_by_name() {
    let rig = Rig::with("request_bytes = 4096", false).await;
    let caller = rig.caller();
    let client = caller.client();
    let long = "x".repeat(10_000);
    let error = client.get(&long).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::LimitExceeded), "{error}");
    let many = (0..2000).map(|i| format!("NAME{i}")).collect::<Vec<_>>();
    assert!(client.get_many(&many).await.is_err(), "a batch over the limit");

    // Bytes that are no text where the contract has text, in a call that is well formed otherwise.
    let mut raw = tonic::client::Grpc::new(client.channel());
    raw.ready().await.unwrap();
    let path = "/secretbroker.v1.SecretBroker/GetSecret".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<Vec<u8>, GetSecretResponse>::default();
    let status = raw.unary(tonic::Request::new(vec![0xff_u8; 3]), path, codec).await.unwrap_err();
    let error = client.explain(&status);
    assert_eq!(error.reason(), Some(Reason::InvalidRequest), "{error}");
    assert!(client.get("KEY").await.is_ok());
}

#[tokio::test]
async fn a_flood_of_headers_ends_its_connection() {
    let rig = Rig::start().await;
    let good = rig.caller();
    // HEADERS without END_HEADERS, then CONTINUATION after CONTINUATION.
    let literal = [&[0x10, 1, b'a', 100][..], &[b'b'; 100]].concat();
    let mut flood = frame(1, 0, 1, &literal);
    for _ in 0..2000 {
        flood.extend(frame(9, 0, 1, &literal));
    }
    let before = resident(rig.broker.pid());
    told_to_go(&good, &[PREFACE, SETTINGS, &flood].concat()).await;
    assert_eq!(good.value().await, "first");
    assert!(resident(rig.broker.pid()) < before + 20_000_000);
}

#[tokio::test]
async fn ten_thousand_silent_connections_keep_nobody_out() {
    let wanted = 10_000;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).unwrap();
    assert!(limit.maximum.is_none_or(|most| most > wanted + 200), "the test needs open files");
    let rig = Rig::with("connections = 200", false).await;
    let good = rig.caller();
    assert_eq!(good.value().await, "first");
    let before = resident(rig.broker.pid());
    let mut silent = Vec::new();
    for i in 0..wanted {
        silent.push(TcpStream::connect(good.address()).await.expect("a connection"));
        if i % 1000 == 500 {
            assert_eq!(good.value().await, "first", "with {i} silent connections");
        }
    }
    assert_eq!(good.value().await, "first");
    let grown = resident(rig.broker.pid()).saturating_sub(before);
    assert!(grown < 64_000_000, "{grown} bytes for silent connections");
    for mut stream in silent {
        let mut read = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut read));
        let _ = closed.await.expect("a silent connection is closed");
    }
    assert_eq!(good.value().await, "first");
}

#[tokio::test]
async fn a_reader_that_does_not_read_costs_little_and_gets_the_latest() {
    let rig = Rig::start().await;
    let caller = rig.caller();
    let client = caller.client();
    let request = WatchSecretsRequest { names: vec!["KEY".into()], ..Default::default() };
    assert!(request.encoded_len() > 0);
    let mut slow = SecretBrokerClient::new(client.channel());
    let mut stream = slow.watch_secrets(request).await.unwrap().into_inner();
    let _snapshot = stream.message().await.unwrap().unwrap();
    let large = "v".repeat(40_000);
    let other = rig.caller();
    let reader = other.client();
    let mut fast = reader.watch(["KEY"]);
    let before = resident(rig.broker.pid());
    for i in 0..40 {
        let value = format!("{large}{i}");
        rig.set(&value);
        // The fast reader sees each: only the slow one does not read.
        until("the fast reader is told", async || match fast.next().await.unwrap() {
            Ok(event) => {
                let secret = event.secret()?;
                (secret.text("value") == Some(value.as_str())).then_some(())
            }
            Err(error) => panic!("{error}"),
        })
        .await;
    }
    let grown = resident(rig.broker.pid()).saturating_sub(before);
    assert!(grown < 16_000_000, "{grown} bytes for a slow reader");
    let last = format!("{large}39");
    until("the slow reader gets the latest", async || {
        let message = stream.message().await.expect("the stream stands").expect("a message");
        let secret = message.secrets.first()?;
        (secret.fields["value"] == last.as_bytes()).then_some(())
    })
    .await;
    assert!(matches!(
        rig.caller().client().watch(["KEY"]).next().await,
        Some(Ok(Event::Current(_)))
    ));
}
