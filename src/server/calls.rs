//! The service `secretbroker.v1.SecretBroker`: messages to use cases and back.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesOrdered};
use hyper::HeaderMap;
use tonic::{Request, Response, Status};

use super::{
    deadline,
    edge::Edge,
    errors::{self, Refusal},
    listener::Caller,
    proto::{self, secret_broker_server::SecretBroker, secret_result},
    watches::{Updates, Watching},
    wire::{self, EncodedSecret},
};
use crate::{
    audit::Outcome,
    broker::snapshot::{Rendering, Shared},
    domain::{life::State, policy::Verb, secret::Generation},
};

/// Entries of a page of [`SecretBroker::list_secrets`] unless fewer are asked for.
const PAGE: usize = 1000;
/// Characters of a report's detail.
const DETAIL_CHARS: usize = 256;

/// The service for one caller.
#[derive(Clone)]
pub(super) struct Calls {
    pub(super) edge: Arc<Edge>,
    pub(super) caller: Arc<Caller>,
}

#[tonic::async_trait]
impl SecretBroker for Calls {
    async fn get_secret(
        &self,
        request: Request<proto::GetSecretRequest>,
    ) -> Result<Response<proto::GetSecretResponse>, Status> {
        let deadline = self.deadline(request.metadata().as_ref())?;
        let name = &request.get_ref().name;
        let rendering = self.edge.get(&self.caller, name, deadline).await?;
        let secret = Some(EncodedSecret(rendering.secret.clone()));
        Ok(Response::new(proto::GetSecretResponse { secret }))
    }

    async fn batch_get_secrets(
        &self,
        request: Request<proto::BatchGetSecretsRequest>,
    ) -> Result<Response<proto::BatchGetSecretsResponse>, Status> {
        let deadline = self.deadline(request.metadata().as_ref())?;
        let names = request.into_inner().names;
        self.check_names(names.iter())?;
        let results = names
            .into_iter()
            .map(|name| async move {
                let served = self.edge.get(&self.caller, &name, deadline).await;
                result(name, served)
            })
            .collect::<FuturesOrdered<_>>()
            .collect()
            .await;
        Ok(Response::new(proto::BatchGetSecretsResponse { results }))
    }

    async fn list_secrets(
        &self,
        request: Request<proto::ListSecretsRequest>,
    ) -> Result<Response<proto::ListSecretsResponse>, Status> {
        let proto::ListSecretsRequest { category, page_size, page_token } = request.into_inner();
        let size = match usize::try_from(page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE),
            Err(_) => return Err(Refusal::invalid("page_size is 0 or more").into()),
        };
        self.edge.record(&self.caller, Verb::List, &category, None, Outcome::Allowed)?;
        let policy = self.edge.policy.load_full();
        let mut secrets = Vec::new();
        for (name, in_category, state) in self.edge.broker.list().await {
            let listed = name.as_str() > page_token.as_str()
                && (category.is_empty() || *category == *in_category)
                && policy.allows(&self.caller.identity, Verb::List, &name, &in_category);
            if !listed {
                continue;
            }
            if secrets.len() == size {
                let next = secrets.last().map(|last: &proto::SecretMetadata| last.name.clone());
                let next_page_token = next.unwrap_or_default();
                return Ok(Response::new(proto::ListSecretsResponse { secrets, next_page_token }));
            }
            let name = name.as_str().to_owned();
            secrets.push(self.metadata(name, in_category.as_ref().into(), state.as_ref()));
        }
        Ok(Response::new(proto::ListSecretsResponse { secrets, next_page_token: String::new() }))
    }

    type WatchSecretsStream = Updates;

    async fn watch_secrets(
        &self,
        request: Request<proto::WatchSecretsRequest>,
    ) -> Result<Response<Updates>, Status> {
        let proto::WatchSecretsRequest { names, seen_generations } = request.into_inner();
        self.check_names(names.iter())?;
        self.check_names(seen_generations.keys())?;
        let Ok(place) = Arc::clone(&self.edge.watches).try_acquire_owned() else {
            return Err(Refusal::limit("server.limits.watches").into());
        };
        for name in &names {
            self.edge.authorised(&self.caller, Verb::Watch, name).await?;
        }
        let seen = seen_generations.into_iter().map(|(name, seen)| (name, Generation(seen)));
        let seen = seen.collect::<BTreeMap<_, _>>();
        let watching = Watching::start(self.clone(), names, &seen, place).await?;
        Ok(Response::new(watching.into_updates()))
    }

    async fn report_outcome(
        &self,
        request: Request<proto::ReportOutcomeRequest>,
    ) -> Result<Response<proto::ReportOutcomeResponse>, Status> {
        let report = request.into_inner();
        if report.detail.chars().count() > DETAIL_CHARS {
            return Err(Refusal::invalid("detail has at most 256 characters").into());
        }
        let outcome = report.outcome();
        if outcome == proto::Outcome::Unspecified {
            let message = "outcome is OUTCOME_APPLIED, OUTCOME_WORKED or OUTCOME_REFUSED";
            return Err(Refusal::invalid(message).into());
        }
        let kept = self.edge.authorised(&self.caller, Verb::Report, &report.name).await?;
        let generation = Generation(report.generation);
        let said = Outcome::Reported(outcome.as_str_name());
        self.edge.record(&self.caller, Verb::Report, &report.name, Some(("", generation)), said)?;
        match outcome {
            proto::Outcome::Refused => kept.refused(generation),
            proto::Outcome::Worked => kept.worked(&self.caller.identity, generation),
            _ => kept.acknowledged(&self.caller.identity, generation),
        }
        let current_generation = kept.snapshot().generation().0;
        Ok(Response::new(proto::ReportOutcomeResponse { current_generation }))
    }
}

impl Calls {
    fn check_names<'a>(
        &self,
        names: impl ExactSizeIterator<Item = &'a String>,
    ) -> Result<(), Refusal> {
        let limit = self.edge.limits.names;
        if names.len() > limit {
            return Err(Refusal::invalid(format!("a request names at most {limit} secrets")));
        }
        let mut seen = HashSet::with_capacity(names.len());
        for name in names {
            if !seen.insert(name) {
                return Err(Refusal::invalid("a request names each secret at most once"));
            }
        }
        Ok(())
    }

    /// The time for the call: what the caller states, at most what the configuration allows.
    pub(super) fn deadline(&self, headers: &HeaderMap) -> Result<Duration, Refusal> {
        deadline::stated(headers, self.edge.limits.deadline)
    }

    fn metadata(
        &self,
        name: String,
        category: String,
        state: Option<&Shared>,
    ) -> proto::SecretMetadata {
        let mut metadata = proto::SecretMetadata { name, category, ..Default::default() };
        let Some(snapshot) = state else {
            metadata.set_state(proto::SecretState::Absent);
            return metadata;
        };
        let now = self.edge.broker.clock().now();
        if let Some(held) = snapshot.live(now) {
            metadata.version = String::from(&*held.version.0);
            metadata.generation = held.generation.0;
            metadata.issue_time = Some(wire::timestamp(snapshot.wall(held.issued_at)));
            metadata.expire_time = held.ends_at.map(|end| wire::timestamp(snapshot.wall(end)));
        }
        metadata.set_state(match snapshot.view.state {
            State::Absent => proto::SecretState::Absent,
            State::Revoked => proto::SecretState::Revoked,
            _ if metadata.generation == 0 => proto::SecretState::Expired,
            State::Fresh => proto::SecretState::Fresh,
            State::Renewing => proto::SecretState::Renewing,
            State::Replacing => proto::SecretState::Replacing,
            State::Stale => proto::SecretState::Stale,
            State::Expired => proto::SecretState::Expired,
        });
        if let Some(fault) = &snapshot.view.fault {
            metadata.set_reason(errors::reason(fault.reason));
        }
        metadata
    }
}

/// One name's outcome as a batch carries it.
fn result(name: String, served: Result<Arc<Rendering>, Refusal>) -> proto::SecretResult {
    match served {
        Ok(rendering) => {
            let secret = EncodedSecret(rendering.secret.clone());
            proto::SecretResult { name, outcome: Some(secret_result::Outcome::Secret(secret)) }
        }
        Err(refusal) => refusal.into_result(name),
    }
}
