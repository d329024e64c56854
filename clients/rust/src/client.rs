//! The verbs of the contract.
//!
//! A client is cheap to clone; its clones share one connection, which is made again when it breaks.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    Address, Builder, Error, Metadata, Opening, Secret, Watch,
    connect::{Failure, Failures},
    live::Lives,
    proto::{self, secret_broker_client::SecretBrokerClient, secret_result},
};

/// The most names that the contract takes in one batch.
const BATCH: usize = 1000;
/// The most characters of a report's detail.
const DETAIL: usize = 256;
/// Larger than any batch of secrets that a broker is configured to send.
const LARGEST_REPLY: usize = 64 << 20;

/// A client of the broker.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    address: Address,
    failures: Failures,
    deadline: Duration,
    pub(crate) lives: Lives,
}

/// What became of a version at the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It was taken over, and none before it is in use any more.
    Applied,
    /// The target accepted it; implies [`Applied`](Self::Applied).
    Worked,
    /// The target refused it, and said this. Must not contain a value; cut at 256 characters.
    Refused(&'a str),
}

impl Client {
    /// A client with settings of your own.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A client as the variables [`ADDRESS_VARIABLE`](crate::ADDRESS_VARIABLE) and
    /// [`CERT_DIR_VARIABLE`](crate::CERT_DIR_VARIABLE) say.
    ///
    /// # Errors
    /// [`Error::Configuration`] when they name nothing that can work.
    pub fn from_env() -> Result<Self, Error> {
        Builder::default().env().build()
    }

    pub(crate) fn new(
        channel: Channel,
        address: Address,
        failures: Failures,
        deadline: Duration,
    ) -> Self {
        Self { channel, address, failures, deadline, lives: Lives::default() }
    }

    /// The same client with another deadline: `client.with_deadline(d).get(name)`.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The channel, for other services of the broker such as health.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The broker's address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The current version of a secret.
    ///
    /// # Errors
    /// The broker's [`Reason`](crate::Reason), or that it could not be asked in time.
    pub async fn get(&self, name: &str) -> Result<Secret, Error> {
        let request = proto::GetSecretRequest { name: name.to_owned() };
        let reply =
            self.call(request, |mut stub, request| async move { stub.get_secret(request).await });
        reply
            .await?
            .secret
            .map(Secret::from)
            .ok_or_else(|| self.malformed("a reply without a secret"))
    }

    /// Several secrets at once, each with its own result, in the order of the names.
    ///
    /// # Errors
    /// Only when the broker could not be asked; what became of a name stands with it.
    pub async fn get_many<N: AsRef<str>>(
        &self,
        names: &[N],
    ) -> Result<Vec<(String, Result<Secret, Error>)>, Error> {
        let mut all = Vec::with_capacity(names.len());
        for chunk in names.chunks(BATCH) {
            let names = chunk.iter().map(|name| name.as_ref().to_owned()).collect();
            let request = proto::BatchGetSecretsRequest { names };
            let reply = self.call(request, |mut stub, request| async move {
                stub.batch_get_secrets(request).await
            });
            all.extend(reply.await?.results.into_iter().map(|result| {
                let outcome = match result.outcome {
                    Some(secret_result::Outcome::Secret(secret)) => Ok(secret.into()),
                    Some(secret_result::Outcome::Error(error)) => Err(error.into()),
                    None => Err(self.malformed("a result without an outcome")),
                };
                (result.name, outcome)
            }));
        }
        Ok(all)
    }

    /// What this caller may read, without values: of one category, or all.
    ///
    /// # Errors
    /// That the broker could not be asked in time.
    pub async fn list(&self, category: Option<&str>) -> Result<Vec<Metadata>, Error> {
        let mut all = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = proto::ListSecretsRequest {
                category: category.unwrap_or_default().to_owned(),
                page_size: 0,
                page_token,
            };
            let reply = self
                .call(request, |mut stub, request| async move { stub.list_secrets(request).await });
            let page = reply.await?;
            all.extend(page.secrets.into_iter().map(Metadata::from));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// Watches these secrets; all that may be read when none is named.
    pub fn watch<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> Watch {
        Watch::new(self.clone(), names.into_iter().map(Into::into).collect())
    }

    /// A handle that always holds the current version; await it for the first one.
    ///
    /// All handles of one name from one client and its clones are the same, since the broker counts what this
    /// workload acknowledges, and not which part of it.
    pub fn live(&self, name: impl Into<String>) -> Opening {
        Opening::new(self.clone(), name.into(), self.deadline)
    }

    /// Tells the broker what became of a version, and returns the generation that is current now.
    ///
    /// # Errors
    /// The broker's [`Reason`](crate::Reason), or that it could not be told in time.
    pub async fn report(&self, secret: &Secret, outcome: Outcome<'_>) -> Result<u64, Error> {
        let (outcome, detail) = match outcome {
            Outcome::Applied => (proto::Outcome::Applied, ""),
            Outcome::Worked => (proto::Outcome::Worked, ""),
            Outcome::Refused(detail) => (proto::Outcome::Refused, detail),
        };
        let request = proto::ReportOutcomeRequest {
            name: secret.name().to_owned(),
            generation: secret.generation(),
            outcome: outcome.into(),
            detail: detail.chars().take(DETAIL).collect(),
        };
        let reply = self
            .call(request, |mut stub, request| async move { stub.report_outcome(request).await });
        Ok(reply.await?.current_generation)
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(crate) fn stub(&self) -> SecretBrokerClient<Channel> {
        SecretBrokerClient::new(self.channel()).max_decoding_message_size(LARGEST_REPLY)
    }

    /// One call within the deadline, which the broker is told as well.
    async fn call<Q, R, F>(
        &self,
        message: Q,
        call: impl FnOnce(SecretBrokerClient<Channel>, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        match timeout(self.deadline, call(self.stub(), request)).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(self.explain(&status)),
            Err(_) => Err(self.late()),
        }
    }

    /// What a status means: the broker's answer, or what broke on the way to it.
    pub fn explain(&self, status: &Status) -> Error {
        let mut source = std::error::Error::source(status);
        // The broker's own answers come without a local cause.
        if source.is_none()
            && let Some(answer) = Error::answered(status)
        {
            return answer;
        }
        while let Some(cause) = source {
            if cause.is::<tonic::TimeoutExpired>() {
                return self.late();
            }
            source = cause.source();
        }
        let address = self.address.to_string();
        match self.failures.last() {
            Some(Failure::Tls(detail)) => Error::Tls { address, detail },
            Some(Failure::Network(detail)) => Error::Unreachable { address, detail },
            None => Error::Unreachable { address, detail: status.message().to_owned() },
        }
    }

    /// Why nothing was heard from the broker within the deadline.
    pub(crate) fn unheard(&self) -> Error {
        match self.failures.last() {
            Some(_) => self.explain(&Status::unknown("nothing was heard")),
            None => self.late(),
        }
    }

    pub(crate) fn late(&self) -> Error {
        Error::Deadline { address: self.address.to_string(), deadline: self.deadline }
    }

    fn malformed(&self, what: &str) -> Error {
        Error::Unreachable {
            address: self.address.to_string(),
            detail: format!("{what} came back"),
        }
    }
}
