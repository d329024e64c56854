//! What is seen of rotations: the engine's ports, observed without the engine knowing.
//!
//! The metrics are `secret_operator_<noun>_<unit>`. Only the operator that leads moves those about
//! secrets, so each is asked for as the maximum over all operators.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use super::metrics::{Counters, Label, family, gauge};
use crate::{
    domain::{
        fault::Fault,
        rotation::{RotationId, Standing},
        secret::{Fields, SecretName},
    },
    rotation::ports::{
        Alert, Alerts, Book, Evidence, Journal, SaveError, Stamp, TargetError, Validator,
    },
};

const PREFIX: &str = "secret_operator";

type Gauges = Family<[(&'static str, Label); 1], Gauge>;

/// The metrics of an operator.
#[derive(Debug)]
pub struct RotationMetrics {
    leading: Gauge,
    due: Gauges,
    open: Gauges,
    parked: Gauges,
    ended: Counters<2>,
    validations: Counters<3>,
    alerts: Counters<2>,
    /// The rotation of each secret that was seen open last.
    running: Mutex<BTreeMap<SecretName, RotationId>>,
}

impl RotationMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let r = registry.sub_registry_with_prefix(PREFIX);
        let due = Gauges::default();
        let help = "When a secret is due to be rotated";
        r.register_with_unit("due_timestamp", help, Unit::Seconds, due.clone());
        let (open, parked) = (Gauges::default(), Gauges::default());
        r.register("rotation_open", "1 while a rotation of the secret is under way", open.clone());
        let help = "1 while the rotation of the secret can't go on by itself";
        r.register("rotation_parked", help, parked.clone());
        Self {
            leading: gauge(r, "leading", "1 for the operator that acts"),
            due,
            open,
            parked,
            ended: family(r, "rotations", "Rotations that ended, by secret and outcome"),
            validations: family(
                r,
                "validations",
                "Uses of a value by a validator, by secret, validator and outcome",
            ),
            alerts: family(r, "alerts", "Alerts that people were to be told, by name and urgency"),
            running: Mutex::default(),
        }
    }

    /// Shows whether this operator leads, for as long as it is polled.
    pub async fn follow(&self, mut leading: watch::Receiver<bool>) {
        loop {
            self.leading.set((*leading.borrow_and_update()).into());
            if leading.changed().await.is_err() {
                return;
            }
        }
    }

    fn saw(&self, secret: &SecretName, book: &Book) {
        let name = || [("secret", Label::from(secret.as_str().to_owned()))];
        if let Some(due) = book.due {
            self.due.get_or_create(&name()).set(due.as_second());
        }
        self.open.get_or_create(&name()).set(book.open.is_some().into());
        let parked = book.open.as_ref().map(|open| &open.standing);
        let parked = matches!(parked, Some(Standing::Parked(_)));
        self.parked.get_or_create(&name()).set(parked.into());
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &book.open {
            running.insert(secret.clone(), open.id.clone());
            return;
        }
        let Some(id) = running.remove(secret) else { return };
        if let Some(ended) = book.past.iter().find(|past| past.id == id) {
            let outcome = match ended.standing {
                Standing::Succeeded => "succeeded",
                _ => "rolled_back",
            };
            let [secret] = name();
            self.ended.get_or_create(&[secret, ("outcome", outcome.into())]).inc();
        }
    }
}

/// A journal, observed.
pub struct ObservedJournal {
    /// The journal.
    pub journal: Arc<dyn Journal>,
    /// Where its books are shown.
    pub metrics: Arc<RotationMetrics>,
}

#[async_trait]
impl Journal for ObservedJournal {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        let (book, stamp) = self.journal.load(secret).await?;
        self.metrics.saw(secret, &book);
        Ok((book, stamp))
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        let stamp = self.journal.save(secret, book, stamp).await?;
        self.metrics.saw(secret, book);
        Ok(stamp)
    }
}

/// A validator, observed.
pub struct ObservedValidator {
    /// The validator.
    pub validator: Arc<dyn Validator>,
    /// The secret that it is for.
    pub secret: SecretName,
    /// Counts its verdicts.
    pub metrics: Arc<RotationMetrics>,
}

#[async_trait]
impl Validator for ObservedValidator {
    fn kind(&self) -> &'static str {
        self.validator.kind()
    }

    async fn validate(
        &self,
        value: &Fields,
        previous: Option<&Fields>,
    ) -> Result<Evidence, TargetError> {
        let verdict = self.validator.validate(value, previous).await;
        let outcome = match &verdict {
            Ok(_) => "ok",
            Err(TargetError::Refused(_)) => "refused",
            Err(TargetError::Fault(_)) => "failed",
        };
        let labels = [
            ("secret", self.secret.as_str().to_owned().into()),
            ("validator", self.kind().into()),
            ("outcome", outcome.into()),
        ];
        self.metrics.validations.get_or_create(&labels).inc();
        verdict
    }
}

/// The way to people, observed.
pub struct ObservedAlerts {
    /// The way to people.
    pub alerts: Arc<dyn Alerts>,
    /// Counts what was to be told.
    pub metrics: Arc<RotationMetrics>,
}

#[async_trait]
impl Alerts for ObservedAlerts {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        let urgency = alert.urgency.to_string();
        let labels = [("name", alert.name.clone()), ("urgency", urgency.into())];
        self.metrics.alerts.get_or_create(&labels).inc();
        self.alerts.raise(alert).await
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use jiff::Timestamp;

    use super::*;
    use crate::{rotation::ports::Urgency, telemetry::Metrics};

    #[tokio::test]
    async fn the_page_tells_who_leads_what_is_due_and_what_people_were_told() {
        let (page, metrics) = Metrics::of_operator();
        let metrics = Arc::new(metrics);
        let has = |line: &str| {
            let text = page.render(Timestamp::UNIX_EPOCH, []);
            assert!(text.lines().any(|l| l == line), "{line} is not on the page:\n{text}");
        };
        has("secret_operator_leading 0");
        let (leads, leading) = watch::channel(true);
        let mut following = std::pin::pin!(metrics.follow(leading));
        assert!(poll!(&mut following).is_pending());
        has("secret_operator_leading 1");
        leads.send_replace(false);
        assert!(poll!(&mut following).is_pending());
        has("secret_operator_leading 0");
        let secret: SecretName = "JWT_SECRET".parse().unwrap();
        let due = Some(Timestamp::from_second(9).unwrap());
        metrics.saw(&secret, &Book { due, ..Book::default() });
        has("secret_operator_due_timestamp_seconds{secret=\"JWT_SECRET\"} 9");
        has("secret_operator_rotation_open{secret=\"JWT_SECRET\"} 0");
        has("secret_operator_rotation_parked{secret=\"JWT_SECRET\"} 0");
        let alerts: Arc<dyn Alerts> = Arc::new(Nobody);
        let observed = ObservedAlerts { alerts, metrics: Arc::clone(&metrics) };
        let alert = Alert {
            urgency: Urgency::Critical,
            name: "rotation_parked".into(),
            secret,
            summary: String::new(),
        };
        observed.raise(&alert).await.unwrap();
        has("secret_operator_alerts_total{name=\"rotation_parked\",urgency=\"critical\"} 1");
    }

    struct Nobody;

    #[async_trait]
    impl Alerts for Nobody {
        async fn raise(&self, _: &Alert) -> Result<(), Fault> {
            Ok(())
        }
    }
}
