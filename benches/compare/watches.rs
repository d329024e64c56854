//! From a change to all its watchers, and what an idle watcher costs.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use prost::{
    Message,
    bytes::{Buf, BytesMut},
};
use secret_broker_client::proto::{
    GetSecretResponse, Outcome, ReportOutcomeRequest, WatchEventType, WatchSecretsRequest,
    WatchSecretsResponse,
};
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
const SECRET: &str = "[secrets.DB]\ncategory = \"database\"\nstore = \"memory\"\nttl = \"1h\"\nmax_ttl = \"2h\"\n\
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
                let _ = seen.send((secret.generation, Instant::now()));
            }
        }
    }
}

type Seen = (u64, Instant);

/// The moments at which all streams had a generation.
async fn all(seen: &mut mpsc::UnboundedReceiver<Seen>, generation: u64) -> Vec<Instant> {
    let mut moments = Vec::new();
    while moments.len() < CONNECTIONS * STREAMS {
        let next = tokio::time::timeout(Duration::from_secs(20), seen.recv());
        let (found, moment) = next.await.expect("a change reaches every stream").unwrap();
        if found == generation {
            moments.push(moment);
        }
    }
    moments
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
    let current = broker.target.once().await.unwrap();
    let mut generation =
        GetSecretResponse::decode(&current[5..]).unwrap().secret.unwrap().generation;
    let before = resident(broker.pid());
    let (tell, mut seen) = mpsc::unbounded_channel();
    for connection in &connections {
        for _ in 0..STREAMS {
            let stream = connection.share().expect("HTTP/2");
            tokio::spawn(watch(stream, target.clone(), tell.clone()));
        }
    }
    all(&mut seen, generation).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let streams = (CONNECTIONS * STREAMS) as f64;
    let each = (resident(broker.pid()) - before) * 1e6 / streams;

    // The change is asked for by a caller: its way to the broker and the new version's making are
    // part of the time.
    let mut latencies = Vec::new();
    let mut caller = broker.target.connect().await.unwrap();
    for _ in 0..CHANGES {
        let refused = ReportOutcomeRequest {
            name: "DB".into(),
            generation,
            outcome: Outcome::Refused.into(),
            ..Default::default()
        };
        let refused = asking(&broker, Ask::grpc("ReportOutcome", &refused));
        let begun = Instant::now();
        caller.read(&refused).await.expect("the report is taken");
        generation += 1;
        let moments = all(&mut seen, generation).await;
        latencies.extend(moments.into_iter().map(|moment| moment - begun));
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
