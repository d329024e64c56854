//! The operator's feed: hears of rotations as they happen, and tells how far readers are.
//!
//! Invariants: nothing that is served waits for the operator; whatever may have been missed while the
//! stream was closed is asked for when it opens; a stream is opened again after a jittered back-off,
//! and as soon as the certificate's files change.

mod adoption;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use secret_broker_client::{Client, Error};
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use self::adoption::Adoption;
use crate::{
    broker::{
        Broker,
        observe::{FeedNews, Observer},
    },
    config::{Deployment, OperatorFeed},
    contract::operator::{
        WatchRotationsRequest, WatchRotationsResponse, rotation_feed_client::RotationFeedClient,
    },
    domain::{secret::SecretName, time::Jitter},
    files::FileWatch,
};

/// The time for a stream to be confirmed, connecting included.
const OPENING: Duration = Duration::from_secs(10);
/// The longest first wait before the stream is opened again; it doubles with each failure.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait.
const LAST_WAIT: Duration = Duration::from_secs(15);

/// The secrets that are read from each path of Vault's API.
pub type Paths = BTreeMap<String, Vec<SecretName>>;

/// The way to the operator of one sidecar.
pub struct Feed {
    settings: OperatorFeed,
    request: WatchRotationsRequest,
    paths: Paths,
    broker: Arc<Broker>,
    adoption: Adoption,
    jitter: Jitter,
}

impl Feed {
    /// A feed for a sidecar that is called `instance`; nothing happens until it runs.
    pub fn new(
        settings: OperatorFeed,
        deployment: Deployment,
        paths: Paths,
        instance: String,
        broker: Arc<Broker>,
        jitter: Jitter,
    ) -> Self {
        let request = WatchRotationsRequest {
            paths: paths.keys().cloned().collect(),
            environment: deployment.environment.unwrap_or_default(),
            colour: deployment.colour.unwrap_or_default(),
            instance: instance.clone(),
        };
        let adoption = Adoption::new(&paths, instance, Arc::clone(&broker));
        Self { settings, request, paths, broker, adoption, jitter }
    }

    /// Follows the operator for ever.
    pub async fn run(mut self) {
        let OperatorFeed { ca, cert, key, .. } = self.settings.clone();
        let files = FileWatch::new([ca, cert, key]);
        let mut longest = FIRST_WAIT;
        let mut is_told = false;
        loop {
            let since = Instant::now();
            let why = tokio::select! {
                why = self.follow() => why,
                () = files.changed() => "a file of its certificates changed".to_owned(),
            };
            let lasted = since.elapsed() > LAST_WAIT;
            if lasted {
                (longest, is_told) = (FIRST_WAIT, false);
            }
            // Once for each outage: it may last, and nothing that is served depends on it.
            if std::mem::replace(&mut is_told, true) {
                tracing::debug!(why, "the operator still can't be heard");
            } else {
                tell(&self.broker, FeedNews::Failed(&why));
            }
            sleep(self.jitter.spread(longest, 0.0, 1.0)).await;
            longest = (longest * 2).min(LAST_WAIT);
        }
    }

    /// Follows one stream to its end, and says why it ended.
    async fn follow(&mut self) -> String {
        let client = match self.connect() {
            Ok(client) => client,
            Err(error) => return reason(error),
        };
        let mut operator = RotationFeedClient::new(client.channel());
        let opening = async {
            let mut stream = operator.watch_rotations(self.request.clone()).await?.into_inner();
            let first = stream.message().await?;
            Ok::<_, tonic::Status>((stream, first))
        };
        let (mut stream, first) = match timeout(OPENING, opening).await {
            Ok(Ok((stream, Some(first)))) => (stream, first),
            Ok(Ok((_, None))) => return "it ended the stream at once".to_owned(),
            Ok(Err(status)) => return reason(client.explain(&status)),
            Err(_) => return "it does not answer in time".to_owned(),
        };
        let _open = Open::begin(&self.broker);
        self.verify().await;
        self.take(first).await;
        self.adoption.start_over();
        let Self { paths, broker, adoption, .. } = self;
        tokio::select! {
            why = hear(&mut stream, paths, broker, &client) => why,
            never = adoption.run(operator) => match never {},
        }
    }

    /// A new connection each time, so that it is made with the certificates of now.
    fn connect(&self) -> Result<Client, Error> {
        let OperatorFeed { address, server_name, ca, cert, key } = &self.settings;
        let mut builder = Client::builder().address(address).cert_files(ca, cert, key);
        if let Some(name) = server_name {
            builder = builder.server_name(name);
        }
        builder.build()
    }

    /// Has everything checked that may have changed unheard. A lease is not: it is not what
    /// rotations move.
    async fn verify(&self) {
        for name in self.paths.values().flatten() {
            if let Some(kept) = self.broker.kept_now(name).await
                && kept.snapshot().view.held.as_ref().is_none_or(|held| held.lease.is_none())
            {
                kept.verify();
            }
        }
    }

    async fn take(&self, message: WatchRotationsResponse) {
        take(message, &self.paths, &self.broker).await;
    }
}

async fn hear(
    stream: &mut Streaming<WatchRotationsResponse>,
    paths: &Paths,
    broker: &Broker,
    client: &Client,
) -> String {
    loop {
        match stream.message().await {
            Ok(Some(message)) => take(message, paths, broker).await,
            Ok(None) => return "it ended the stream".to_owned(),
            Err(status) => return reason(client.explain(&status)),
        }
    }
}

/// Has the secrets of a path read at once, and their readers watched as the operator says.
async fn take(message: WatchRotationsResponse, paths: &Paths, broker: &Broker) {
    let Some(names) = paths.get(&message.path) else { return };
    // A time that can't be is not taken for one that is over.
    let until = message
        .monitored_until
        .map(|until| Timestamp::new(until.seconds, until.nanos).unwrap_or(Timestamp::MAX));
    broker.monitor(names, until);
    tell(broker, FeedNews::Announced(&message.path));
    for name in names {
        broker.announced(name).await;
    }
}

fn tell(broker: &Broker, news: FeedNews<'_>) {
    broker.observer().feed(news, broker.clock().wall());
}

/// What went wrong, without the advice that is meant for the broker's own clients.
fn reason(error: Error) -> String {
    match error {
        Error::Tls { detail, .. } => format!("TLS failed: {detail}"),
        Error::Unreachable { detail, .. } => detail,
        other => other.to_string(),
    }
}

/// Tells that the stream is open, for as long as it is held.
struct Open {
    observer: Arc<dyn Observer>,
    broker: Arc<Broker>,
}

impl Open {
    fn begin(broker: &Arc<Broker>) -> Self {
        tell(broker, FeedNews::Opened);
        Self { observer: Arc::clone(broker.observer()), broker: Arc::clone(broker) }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.observer.feed(FeedNews::Closed, self.broker.clock().wall());
    }
}
