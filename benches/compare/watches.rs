//! From a change to all its watchers, and what an idle watcher costs.

use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use prost::{
    Message,
    bytes::{Buf, BytesMut},
};
use secret_broker_client::proto::{WatchEventType, WatchSecretsRequest, WatchSecretsResponse};
use tokio::sync::mpsc;

use crate::{
    contenders::{Contender, Rig},
    load::{Ask, Connection, Target},
    process::resident,
    report::{Report, millis},
};

const CONNECTIONS: usize = 50;
const STREAMS: usize = 20;
const CHANGES: usize = 20;
const SECRET: &str = "[secrets.DB]\ncategory = \"database\"\nstore = \"memory\"\nttl = \"2s\"\nmax_ttl = \"2s\"\n\
    generate.username = { prefix = \"app-\", random = 16 }\ngenerate.password = { random = 32 }\n";

/// Tells of each new version, with the time at which it was there.
async fn watch(mut connection: Connection, target: Target, seen: mpsc::UnboundedSender<Seen>) {
    let mut body = connection.open(&target).await.expect("a stream").into_body();
    let mut buffer = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while buffer.len() >= 5 {
            let length = 5 + (&buffer[1..5]).get_u32() as usize;
            if buffer.len() < length {
                break;
            }
            let message = WatchSecretsResponse::decode(&buffer.split_to(length)[5..]).unwrap();
            let fresh =
                [WatchEventType::Snapshot, WatchEventType::Rotated].contains(&message.r#type());
            if let Some(secret) = message.secrets.first().filter(|_| fresh) {
                let issued = SystemTime::try_from(secret.issue_time.unwrap()).unwrap();
                let took = SystemTime::now().duration_since(issued).unwrap_or_default();
                let _ = seen.send((secret.generation, took));
            }
        }
    }
}

/// A generation, and how long after its issue it was here.
type Seen = (u64, Duration);

/// Waits until all streams had their first message; returns its generation.
async fn all_open(seen: &mut mpsc::UnboundedReceiver<Seen>) -> u64 {
    let mut newest = 0;
    for _ in 0..CONNECTIONS * STREAMS {
        newest = newest.max(next(seen).await.0);
    }
    newest
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Seen>) -> Seen {
    let next = tokio::time::timeout(Duration::from_secs(20), seen.recv());
    next.await.expect("a change reaches every stream").unwrap()
}

fn asking(broker: &Contender, ask: Ask) -> Target {
    Target { ask, ..broker.target.clone() }
}

pub async fn measure(rig: &Rig, report: &mut Report) {
    let broker = rig.broker(SECRET).ready().await;
    let target = asking(
        &broker,
        Ask::grpc(
            "WatchSecrets",
            &WatchSecretsRequest { names: vec!["DB".into()], ..Default::default() },
        ),
    );
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = broker.target.connect().await.unwrap();
        connection.read(&broker.target).await.unwrap();
        connections.push(connection);
    }
    let before = resident(broker.pid());
    let (tell, mut seen) = mpsc::unbounded_channel();
    for connection in &connections {
        for _ in 0..STREAMS {
            let stream = connection.share().expect("HTTP/2");
            tokio::spawn(watch(stream, target.clone(), tell.clone()));
        }
    }
    let first = all_open(&mut seen).await;
    let streams = (CONNECTIONS * STREAMS) as f64;
    let each = (resident(broker.pid()) - before) * 1e6 / streams;

    let mut latencies = Vec::new();
    while latencies.len() < CHANGES * CONNECTIONS * STREAMS {
        let (generation, took) = next(&mut seen).await;
        // Streams that opened while it changed had one of both generations first.
        if generation > first + 1 {
            latencies.push(took);
        }
    }
    latencies.sort_unstable();
    let at = |q: f64| millis(latencies[((latencies.len() - 1) as f64 * q) as usize].as_secs_f64());
    let row =
        |value: String| vec![value, String::new(), String::new(), String::new(), String::new()];
    let what = format!("change to {} streams on {CONNECTIONS} connections", CONNECTIONS * STREAMS);
    report.row(&format!("{what}, p50"), row(at(0.5)));
    report.row(&format!("{what}, p99"), row(at(0.99)));
    report.row("resident memory per idle stream", row(format!("{:.1} kB", each / 1e3)));
}
