//! The webhook's certificate: made, kept where all replicas find it, told to the API server, and replaced before it ends.
//!
//! - The API server trusts a certificate's authority before the certificate is served, and the one before for as long.
//! - Replicas agree on one certificate: who loses the race to write one takes the winner's.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::sleep;

use super::metrics::Metrics;
use crate::{
    broker::ports::Clock,
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
    tls::{
        TlsError,
        own::{self, LiveServer, OwnCertificate},
    },
};

/// How often what is kept and what the API server trusts are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// The wait after a round that failed.
const RETRY: Duration = Duration::from_secs(5);
/// The time that API servers are given to hear of a new authority.
const SETTLE: Duration = Duration::from_secs(10);
/// How often a lost race is run again.
const RACES: usize = 3;

/// A certificate as it is kept.
pub struct Kept {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: SecretValue,
    /// The authorities to trust, PEM: its own first, then the one before.
    pub authorities: String,
}

/// Where the certificate is kept.
#[async_trait]
pub trait Certificates: Send + Sync {
    /// What is kept, and a mark that tells this state of it from others.
    async fn load(&self) -> Result<Option<(Kept, String)>, Fault>;

    /// Keeps another in the place of what was loaded with `mark`, or of nothing.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when somebody else wrote meanwhile.
    async fn save(&self, kept: &Kept, mark: Option<&str>) -> Result<(), Fault>;
}

/// The webhook configurations of the API server.
#[async_trait]
pub trait Registrations: Send + Sync {
    /// Makes the API server trust these authorities (PEM) for the webhooks; does nothing where it does already.
    async fn trust(&self, authorities: &str) -> Result<(), Fault>;
}

/// Without a client of the API server, others have to hand over the authorities.
#[async_trait]
impl Registrations for () {
    async fn trust(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }
}

/// What the certificate is for, and how long it lives.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its DNS names and IP addresses.
    pub names: Vec<String>,
    /// How long it lives; it is replaced at two thirds.
    pub ttl: Duration,
}

/// Keeps the certificate current.
pub struct Keeper {
    kept: Arc<dyn Certificates>,
    registrations: Arc<dyn Registrations>,
    terms: Terms,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// The certificate that is served.
    served: String,
}

impl Keeper {
    /// Keeps it in `kept`.
    pub fn new(
        kept: Arc<dyn Certificates>,
        registrations: Arc<dyn Registrations>,
        terms: Terms,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { kept, registrations, terms, clock, metrics, served: String::new() }
    }

    /// TLS with the certificate that is kept, or with a first one.
    ///
    /// # Errors
    /// When none can be had or made.
    pub async fn first(&mut self) -> Result<LiveServer, Fault> {
        let (kept, is_successor) = self.current().await?;
        // Until the API server can be told, calls fail there, and this is told again and again.
        if let Err(fault) = self.registrations.trust(&kept.authorities).await {
            tracing::warn!(%fault, "the API server could not be told of the webhook's authority");
            self.metrics.certificate_failed();
        }
        if is_successor {
            // Others may serve the one before, and API servers still trust that alone.
            self.settle().await;
        }
        let live =
            LiveServer::new(&kept.certificate, &kept.key).map_err(|error| unusable(&error))?;
        self.serves(&kept);
        Ok(live)
    }

    /// Keeps it current for ever.
    pub async fn run(mut self, live: &LiveServer) {
        loop {
            let wait = match self.round(live).await {
                Ok(()) => LOOK.min(self.terms.ttl / 10),
                Err(fault) => {
                    tracing::warn!(%fault, "the webhook's certificate was not looked after");
                    self.metrics.certificate_failed();
                    RETRY
                }
            };
            sleep(wait).await;
        }
    }

    async fn round(&mut self, live: &LiveServer) -> Result<(), Fault> {
        let (kept, _) = self.current().await?;
        self.registrations.trust(&kept.authorities).await?;
        if kept.certificate != self.served {
            self.settle().await;
            live.offer(&kept.certificate, &kept.key).map_err(|error| unusable(&error))?;
            self.serves(&kept);
        }
        Ok(())
    }

    /// Gives API servers the time to hear of a new authority.
    async fn settle(&self) {
        sleep(SETTLE.min(self.terms.ttl / 10)).await;
    }

    fn serves(&mut self, kept: &Kept) {
        kept.certificate.clone_into(&mut self.served);
        if let Ok(known) = own::known(&kept.certificate) {
            self.metrics.certificate(known.not_after);
            tracing::info!(not_after = %known.not_after, "the webhook's certificate is in force");
        }
    }

    /// The certificate that is kept, replaced if it is due or not for the right names; whether one was replaced just now.
    async fn current(&self) -> Result<(Kept, bool), Fault> {
        let mut is_successor = false;
        for _ in 0..RACES {
            let (old, mark) = self.kept.load().await?.unzip();
            if let Some(kept) = old.as_ref().filter(|kept| self.is_good(kept)) {
                let Kept { certificate, key, authorities } = kept;
                let key = SecretValue::new(key.expose());
                let (certificate, authorities) = (certificate.clone(), authorities.clone());
                return Ok((Kept { certificate, key, authorities }, is_successor));
            }
            is_successor |= old.as_ref().is_some_and(|old| !old.certificate.is_empty());
            let fresh = self.make(old.as_ref())?;
            match self.kept.save(&fresh, mark.as_deref()).await {
                Ok(()) => return Ok((fresh, is_successor)),
                Err(fault) if fault.reason == Reason::Conflict => {}
                Err(fault) => return Err(fault),
            }
        }
        Err(Fault::new(Reason::Conflict, "others keep writing the webhook's certificate"))
    }

    fn is_good(&self, kept: &Kept) -> bool {
        let Ok(known) = own::known(&kept.certificate) else { return false };
        let due = known.not_after.saturating_sub(self.terms.ttl / 3);
        let lives = due.is_ok_and(|due| due > self.clock.wall());
        let serves = LiveServer::new(&kept.certificate, &kept.key).is_ok();
        lives && serves && self.terms.names.iter().all(|name| known.names.contains(name))
    }

    fn make(&self, old: Option<&Kept>) -> Result<Kept, Fault> {
        let made = OwnCertificate::issue(&self.terms.names, self.terms.ttl, self.clock.wall())
            .map_err(|error| unusable(&error))?;
        let before = old.and_then(|old| own::blocks(&old.authorities).next()).unwrap_or_default();
        let authorities = format!("{}\n{before}", made.authority.trim()).trim().to_owned() + "\n";
        Ok(Kept { certificate: made.certificate, key: made.key, authorities })
    }
}

fn unusable(error: &TlsError) -> Fault {
    Fault::new(Reason::Invalid, error.to_string())
}
