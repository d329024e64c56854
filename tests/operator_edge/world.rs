//! Everything around the operator, in memory: targets, versions, a journal, people, Vault's tokens.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use secret_broker::{
    domain::{
        fault::{Fault, Reason},
        labels::Labels,
        rotation::{
            RevokeWhen, Rotation, Terms,
            access::Access,
            schedule::{Every, Schedule},
        },
        secret::{Fields, SecretName, SecretValue},
    },
    rotation::{
        engine::Managed,
        ports::{
            Alert, Alerts, Book, BreakGlass, Change, Claim, Evidence, Generated, Journal,
            Leadership, Opened, Records, Revocation, Rotator, SaveError, Severity, Stamp,
            TargetError, Versions,
        },
    },
};

/// The text of a value.
pub fn text(fields: &Fields) -> String {
    let value = fields.field("value").expect("the one field");
    String::from_utf8(value.expose().to_vec()).unwrap()
}

/// What is written down, as it would be in Vault.
#[derive(Default)]
pub struct Paper {
    books: Mutex<BTreeMap<SecretName, (String, u64)>>,
}

impl Paper {
    /// All of it as text.
    pub fn all(&self) -> String {
        let books = self.books.lock().unwrap();
        books.values().map(|(book, _)| book.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// Has somebody else work on a secret.
    pub fn claim(&self, name: &str, claim: Claim) {
        let book = Book { claim: Some(claim), ..self.book(name) };
        let book = serde_json::to_string(&book).unwrap();
        let mut books = self.books.lock().unwrap();
        let kept = books.entry(name.parse().unwrap()).or_default();
        *kept = (book, kept.1 + 1);
    }

    pub fn book(&self, name: &str) -> Book {
        let books = self.books.lock().unwrap();
        books.get(name).map(|(book, _)| serde_json::from_str(book).unwrap()).unwrap_or_default()
    }
}

#[async_trait]
impl Journal for Paper {
    async fn load(&self, secret: &SecretName) -> Result<(Book, Stamp), Fault> {
        let stamp = self.books.lock().unwrap().get(secret).map_or(0, |(_, stamp)| *stamp);
        Ok((self.book(secret.as_str()), Stamp(stamp)))
    }

    async fn save(
        &self,
        secret: &SecretName,
        book: &Book,
        stamp: Stamp,
    ) -> Result<Stamp, SaveError> {
        let mut books = self.books.lock().unwrap();
        let kept = books.entry(secret.clone()).or_default();
        if kept.1 != stamp.0 {
            return Err(SaveError::Conflict);
        }
        *kept = (serde_json::to_string(book).unwrap(), stamp.0 + 1);
        Ok(Stamp(kept.1))
    }
}

/// One secret's store and target.
pub struct Target {
    place: &'static str,
    pub by_hand: bool,
    pub works: AtomicBool,
    made: AtomicU64,
    versions: Mutex<Vec<Arc<Fields>>>,
    pub labels: Mutex<Labels>,
}

impl Target {
    pub fn new(place: &'static str, by_hand: bool) -> Arc<Self> {
        let first = Arc::new(Fields::single(SecretValue::new("first-value")));
        Arc::new(Self {
            place,
            by_hand,
            works: AtomicBool::new(true),
            made: AtomicU64::new(0),
            versions: Mutex::new(vec![first]),
            labels: Mutex::default(),
        })
    }

    pub fn managed(self: &Arc<Self>, category: &str, approval: bool) -> Managed {
        let terms = Terms {
            environments: vec!["staging".into(), "production".into()],
            canaries: Vec::new(),
            overlapping: true,
            held: false,
            soak: Duration::ZERO,
            overlap: Duration::from_millis(10),
            settle: Duration::ZERO,
            revoke: RevokeWhen::Overlapped,
            approval,
            max_values: 3,
            max_attempts: 2,
            retry_min: Duration::from_millis(5),
            retry_max: Duration::from_millis(5),
        };
        let schedule = Schedule {
            every: Every::Months(1),
            window: None,
            zone: jiff::tz::TimeZone::UTC,
            spread: SignedDuration::ZERO,
        };
        Managed {
            category: category.into(),
            tier: "monthly".into(),
            schedule,
            pair: None,
            terms,
            versions: Arc::clone(self) as Arc<dyn Versions>,
            rotator: Arc::clone(self) as Arc<dyn Rotator>,
            validators: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// The values of all versions.
    pub fn values(&self) -> Vec<String> {
        self.versions.lock().unwrap().iter().map(|fields| text(fields)).collect()
    }
}

#[async_trait]
impl Versions for Target {
    fn place(&self) -> &str {
        self.place
    }

    async fn latest(&self) -> Result<u64, Fault> {
        Ok(self.versions.lock().unwrap().len() as u64)
    }

    async fn read(&self, version: u64) -> Result<Arc<Fields>, Fault> {
        let versions = self.versions.lock().unwrap();
        let found = usize::try_from(version).ok().and_then(|v| versions.get(v.checked_sub(1)?));
        found.cloned().ok_or_else(|| Fault::new(Reason::NotFound, "no such version"))
    }

    async fn append(&self, fields: &Fields, after: u64) -> Result<u64, Fault> {
        let mut versions = self.versions.lock().unwrap();
        if versions.len() as u64 != after {
            return Err(Fault::new(Reason::Conflict, "another version is the latest"));
        }
        versions.push(Arc::new(Fields::single(SecretValue::new(text(fields)))));
        Ok(after + 1)
    }

    async fn labels(&self) -> Result<Labels, Fault> {
        Ok(self.labels.lock().unwrap().clone())
    }

    async fn label(&self, labels: &Labels) -> Result<(), Fault> {
        *self.labels.lock().unwrap() = labels.clone();
        Ok(())
    }
}

#[async_trait]
impl Rotator for Target {
    fn kind(&self) -> &'static str {
        "fake"
    }

    async fn generate(&self, _: Option<&Fields>) -> Result<Generated, TargetError> {
        if self.by_hand {
            return Ok(Generated::HandOver("make a webhook and supply its URL".into()));
        }
        let value = format!("made-{}", self.made.fetch_add(1, Ordering::Relaxed));
        let fields = Fields::single(SecretValue::new(value));
        Ok(Generated::Value { fields, facts: BTreeMap::new() })
    }

    async fn inspect(&self, supplied: &Fields) -> Result<(), TargetError> {
        let is_single = supplied.iter().count() == 1 && supplied.field("value").is_some();
        if is_single { Ok(()) } else { Err(TargetError::refused("a URL has the field `value`")) }
    }

    async fn apply(&self, _: &Change<'_>) -> Result<Evidence, TargetError> {
        Ok("applied".into())
    }

    async fn prove(&self, _: &Fields) -> Result<Evidence, TargetError> {
        if self.works.load(Ordering::Relaxed) {
            Ok("logged in".into())
        } else {
            Err(TargetError::refused("login refused"))
        }
    }

    async fn revoke(
        &self,
        _: &Fields,
        _: Option<&Fields>,
        _: Severity,
    ) -> Result<Revocation, TargetError> {
        Ok(Revocation::Done("revoked".into()))
    }
}

/// People who are called, and records that they read.
#[derive(Default)]
pub struct People {
    pub alerts: Mutex<Vec<Alert>>,
}

impl People {
    pub fn called(&self) -> Vec<String> {
        self.alerts.lock().unwrap().iter().map(|alert| alert.name.to_string()).collect()
    }
}

#[async_trait]
impl Alerts for People {
    async fn raise(&self, alert: &Alert) -> Result<(), Fault> {
        self.alerts.lock().unwrap().push(alert.clone());
        Ok(())
    }
}

#[async_trait]
impl Records for People {
    async fn write(&self, _: &Rotation, _: &str) -> Result<Evidence, Fault> {
        Ok("recorded".into())
    }
}

/// The only operator leads.
pub struct Alone;

#[async_trait]
impl Leadership for Alone {
    async fn hold(&self, _: Duration) -> Result<bool, Fault> {
        Ok(true)
    }

    async fn release(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// Tokens that were given out, by their accessors: for which place, and whether they live.
#[derive(Default)]
pub struct Tokens {
    pub given: Mutex<BTreeMap<String, (String, Duration, bool)>>,
}

impl Tokens {
    pub fn living(&self) -> Vec<String> {
        let given = self.given.lock().unwrap();
        given.values().filter(|(.., lives)| *lives).map(|(place, ..)| place.clone()).collect()
    }
}

#[async_trait]
impl BreakGlass for Tokens {
    async fn open(&self, place: &str, access: &Access) -> Result<Opened, Fault> {
        let accessor = format!("accessor-of-{}", access.id);
        let entry = (place.to_owned(), access.lasts(), true);
        self.given.lock().unwrap().insert(accessor.clone(), entry);
        let lasts = SignedDuration::try_from(access.lasts()).unwrap();
        Ok(Opened {
            token: SecretValue::new("hvs.planted-token"),
            accessor,
            ends_at: Timestamp::now().checked_add(lasts).unwrap(),
        })
    }

    async fn end(&self, accessor: &str) -> Result<(), Fault> {
        if let Some(entry) = self.given.lock().unwrap().get_mut(accessor) {
            entry.2 = false;
        }
        Ok(())
    }
}
