//! Generated values with leases, for development.
//!
//! Invariants: a lease answers for its own time and never beyond its maximum; a value is new with
//! each lease; ended leases are forgotten.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::{
    broker::ports::{Clock, Origin},
    config::Generator,
    domain::{
        fault::{Fault, Reason},
        life::{Issued, Lease, Lifetime, Predecessor, Renewed},
        secret::{Fields, SecretValue, Version},
        time::Moment,
    },
    random::push_characters,
};

/// Random characters of a version or a lease's name: 130 bits.
const NAME_LENGTH: usize = 22;

/// How long leases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The time of one grant.
    pub ttl: Duration,
    /// The most that renewals can carry a lease; without end when absent.
    pub max_ttl: Option<Duration>,
}

/// A secret that is made up.
pub struct Memory {
    fields: BTreeMap<String, Generator>,
    terms: Option<LeaseTerms>,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    rotated: Notify,
}

#[derive(Default)]
struct Held {
    /// The one value of a secret without leases.
    value: Option<(Arc<Fields>, Version)>,
    leases: HashMap<Arc<str>, Grant>,
}

#[derive(Clone, Copy)]
struct Grant {
    ends_at: Moment,
    /// Where renewals end.
    last_end: Option<Moment>,
}

impl Memory {
    /// A secret with these fields; each fetch mints a new value with a lease if there are terms.
    pub fn new(
        fields: BTreeMap<String, Generator>,
        terms: Option<LeaseTerms>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { fields, terms, clock, held: Mutex::default(), rotated: Notify::new() }
    }

    /// Turns the secret over: the value is replaced, or all leases end after `grace`.
    pub fn rotate(&self, grace: Duration) {
        let end = self.clock.now() + grace;
        let mut held = self.held();
        held.value = None;
        for grant in held.leases.values_mut() {
            grant.ends_at = grant.ends_at.min(end);
            grant.last_end = Some(grant.last_end.map_or(end, |last| last.min(end)));
        }
        drop(held);
        self.rotated.notify_one();
    }

    /// The held state; a panic elsewhere can't leave it half changed.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fixed(&self) -> Result<Issued, Fault> {
        let mut held = self.held();
        let (fields, version) = if let Some((fields, version)) = &held.value {
            (Arc::clone(fields), version.clone())
        } else {
            let made = (Arc::new(self.generate()?), Version(random_name()?));
            held.value = Some((Arc::clone(&made.0), made.1.clone()));
            made
        };
        Ok(Issued {
            fields,
            version,
            lifetime: Lifetime::Unbounded,
            max_left: None,
            predecessor: Predecessor::Untold,
        })
    }

    fn lease(&self, terms: LeaseTerms) -> Result<Issued, Fault> {
        let (fields, version, id) = (self.generate()?, Version(random_name()?), random_name()?);
        let now = self.clock.now();
        let ttl = terms.max_ttl.map_or(terms.ttl, |max| max.min(terms.ttl));
        let grant = Grant { ends_at: now + ttl, last_end: terms.max_ttl.map(|max| now + max) };
        let mut held = self.held();
        held.leases.retain(|_, grant| now < grant.ends_at);
        held.leases.insert(Arc::clone(&id), grant);
        Ok(Issued {
            fields: Arc::new(fields),
            version,
            lifetime: Lifetime::Leased { lease: Lease { id, renewable: true }, ttl },
            max_left: terms.max_ttl,
            predecessor: Predecessor::Untold,
        })
    }

    fn generate(&self) -> Result<Fields, Fault> {
        let field = |(name, generator): (&String, &Generator)| {
            let value = match generator {
                Generator::Literal(text) => SecretValue::new(text.as_bytes()),
                Generator::Random { prefix, length } => {
                    let mut value = Zeroizing::new(Vec::with_capacity(prefix.len() + length));
                    value.extend_from_slice(prefix.as_bytes());
                    push_characters(&mut value, *length)?;
                    SecretValue::new(value.as_slice())
                }
            };
            Ok((name.clone(), value))
        };
        self.fields.iter().map(field).collect()
    }
}

#[async_trait]
impl Origin for Memory {
    async fn fetch(&self) -> Result<Issued, Fault> {
        self.terms.map_or_else(|| self.fixed(), |terms| self.lease(terms))
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, Fault> {
        let now = self.clock.now();
        let lost = || Fault::new(Reason::LeaseLost, "the lease ended or was never given");
        let terms = self.terms.ok_or_else(lost)?;
        let mut held = self.held();
        let grant = held.leases.get_mut(&lease.id).filter(|grant| now < grant.ends_at);
        let grant = grant.ok_or_else(lost)?;
        let wished = now + terms.ttl;
        grant.ends_at = grant.last_end.map_or(wished, |last| wished.min(last));
        Ok(Renewed {
            ttl: grant.ends_at - now,
            renewable: grant.last_end.is_none_or(|last| grant.ends_at < last),
            max_left: grant.last_end.map(|last| last - now),
        })
    }

    async fn revoke(&self, lease: &Lease) -> Result<(), Fault> {
        self.held().leases.remove(&lease.id);
        Ok(())
    }

    async fn changed(&self) {
        self.rotated.notified().await;
    }
}

fn random_name() -> Result<Arc<str>, Fault> {
    let mut name = Vec::with_capacity(NAME_LENGTH);
    push_characters(&mut name, NAME_LENGTH)?;
    Ok(Arc::from(String::from_utf8_lossy(&name)))
}
