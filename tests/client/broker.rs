//! A broker of the test's own that speaks the contract.
//!
//! It serves what the test puts into it and records what it is asked.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use secret_broker::server::{
    proto::{
        BatchGetSecretsRequest, BatchGetSecretsResponse, GetSecretRequest, GetSecretResponse,
        ListSecretsRequest, ListSecretsResponse, ReportOutcomeRequest, ReportOutcomeResponse,
        SecretError, SecretMetadata, SecretResult, WatchSecretsRequest, WatchSecretsResponse,
        secret_broker_server::SecretBroker, secret_result::Outcome,
    },
    wire::EncodedSecret,
};
use secret_broker_client::{Reason, proto};
use tokio::sync::{broadcast, watch};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// What the broker holds and has heard.
#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) secrets: Arc<Mutex<BTreeMap<String, proto::Secret>>>,
    pub(crate) reports: watch::Sender<Vec<(String, u64, i32)>>,
    pub(crate) watches: watch::Sender<Vec<HashMap<String, u64>>>,
    events: broadcast::Sender<WatchSecretsResponse>,
    pub(crate) cut: broadcast::Sender<()>,
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self {
            secrets: Arc::default(),
            reports: watch::Sender::default(),
            watches: watch::Sender::default(),
            events: broadcast::channel(64).0,
            cut: broadcast::channel(4).0,
        }
    }

    /// Holds a version, and tells watchers of it.
    pub(crate) fn put(&self, name: &str, generation: u64, fields: &[(&str, &str)]) {
        let secret = proto::Secret {
            name: name.into(),
            fields: fields.iter().map(|(k, v)| ((*k).into(), v.as_bytes().to_vec())).collect(),
            version: format!("v{generation}"),
            generation,
            freshness: proto::Freshness::Fresh.into(),
            time_left: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            ..Default::default()
        };
        let event = WatchSecretsResponse {
            r#type: proto::WatchEventType::Rotated.into(),
            name: name.into(),
            secrets: vec![encoded(&secret)],
            ..Default::default()
        };
        self.secrets.lock().unwrap().insert(name.into(), secret);
        let _ = self.events.send(event);
    }

    /// Cuts all connections; the listeners stay.
    pub(crate) fn cut_off(&self) {
        let _ = self.cut.send(());
    }

    /// Waits until something reported this.
    pub(crate) async fn reported(&self, name: &str, generation: u64, outcome: proto::Outcome) {
        let wanted = (name.to_owned(), generation, i32::from(outcome));
        self.reports.subscribe().wait_for(|all| all.contains(&wanted)).await.unwrap();
    }

    /// Waits until this many watches were opened.
    pub(crate) async fn watched(&self, count: usize) {
        self.watches.subscribe().wait_for(|all| all.len() >= count).await.unwrap();
    }

    /// Waits until no watch is open.
    pub(crate) async fn unwatched(&self) {
        while self.events.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    fn snapshot(&self, request: &WatchSecretsRequest) -> WatchSecretsResponse {
        let mut snapshot = WatchSecretsResponse {
            r#type: proto::WatchEventType::Snapshot.into(),
            ..Default::default()
        };
        for (name, secret) in &*self.secrets.lock().unwrap() {
            if !request.names.is_empty() && !request.names.contains(name) {
                continue;
            }
            if request.seen_generations.get(name) == Some(&secret.generation) {
                snapshot.unchanged.push(name.clone());
            } else {
                snapshot.secrets.push(encoded(secret));
            }
        }
        snapshot
    }

    fn find(&self, name: &str) -> Option<EncodedSecret> {
        self.secrets.lock().unwrap().get(name).map(encoded)
    }
}

fn encoded(secret: &proto::Secret) -> EncodedSecret {
    EncodedSecret(secret.encode_to_vec().into())
}

pub(crate) fn refusal(code: Code, reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "secretbroker.v1", HashMap::new());
    details.set_retry_info(Some(Duration::from_millis(1500)));
    Status::with_error_details(code, message, details)
}

#[tonic::async_trait]
impl SecretBroker for Broker {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        match request.get_ref().name.as_str() {
            "SLOW" => std::future::pending().await,
            "SEALED" => Err(refusal(Code::Unavailable, "SOURCE_SEALED", "the source is sealed")),
            "STRANGER" => Err(refusal(Code::Unauthenticated, "UNAUTHENTICATED", "who are you?")),
            name => match self.find(name) {
                Some(secret) => Ok(Response::new(GetSecretResponse { secret: Some(secret) })),
                None => Err(refusal(Code::PermissionDenied, "DENIED", "unknown or not granted")),
            },
        }
    }

    async fn batch_get_secrets(
        &self,
        request: Request<BatchGetSecretsRequest>,
    ) -> Result<Response<BatchGetSecretsResponse>, Status> {
        let results = request.into_inner().names.into_iter().map(|name| {
            let outcome = self.find(&name).map_or_else(
                || {
                    Outcome::Error(SecretError {
                        reason: Reason::Denied.into(),
                        ..Default::default()
                    })
                },
                Outcome::Secret,
            );
            SecretResult { name, outcome: Some(outcome) }
        });
        Ok(Response::new(BatchGetSecretsResponse { results: results.collect() }))
    }

    async fn list_secrets(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        // One a page, so that paging is used.
        let names: Vec<_> = self.secrets.lock().unwrap().keys().cloned().collect();
        let page: usize = request.get_ref().page_token.parse().unwrap_or(0);
        let entry = names.get(page).map(|name| SecretMetadata {
            name: name.clone(),
            category: "database".into(),
            state: proto::SecretState::Fresh.into(),
            ..Default::default()
        });
        let more = page + 1 < names.len();
        Ok(Response::new(ListSecretsResponse {
            secrets: entry.into_iter().collect(),
            next_page_token: if more { (page + 1).to_string() } else { String::new() },
        }))
    }

    type WatchSecretsStream =
        Pin<Box<dyn Stream<Item = Result<WatchSecretsResponse, Status>> + Send>>;

    async fn watch_secrets(
        &self,
        request: Request<WatchSecretsRequest>,
    ) -> Result<Response<Self::WatchSecretsStream>, Status> {
        let request = request.into_inner();
        if request.names.iter().any(|name| name == "FORBIDDEN") {
            return Err(refusal(Code::PermissionDenied, "DENIED", "unknown or not granted"));
        }
        let events = self.events.subscribe();
        let snapshot = self.snapshot(&request);
        let later = stream::unfold(events, |mut events| async {
            Some((Ok(events.recv().await.ok()?), events))
        });
        self.watches.send_modify(|all| all.push(request.seen_generations));
        Ok(Response::new(Box::pin(stream::iter([Ok(snapshot)]).chain(later))))
    }

    async fn report_outcome(
        &self,
        request: Request<ReportOutcomeRequest>,
    ) -> Result<Response<ReportOutcomeResponse>, Status> {
        let ReportOutcomeRequest { name, generation, outcome, .. } = request.into_inner();
        self.reports.send_modify(|all| all.push((name, generation, outcome)));
        Ok(Response::new(ReportOutcomeResponse { current_generation: generation }))
    }
}
