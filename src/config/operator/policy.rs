//! Who may do what over gRPC.

use super::raw;
use crate::{
    config::{
        check::{Check, policy::patterns},
        mistake::Key,
    },
    domain::policy::{Grant, Policy, Verb},
};

/// Grants in one configuration.
const MAX_GRANTS: usize = 1000;

pub(super) fn check(check: &mut Check<'_>, grants: Vec<raw::Grant>) -> Policy {
    let section = Key::of("policy");
    if grants.len() > MAX_GRANTS {
        let found = format!("{} entries", grants.len());
        check.wrong(section.clone(), found, format!("expected at most {MAX_GRANTS}"));
    }
    let grants = grants.into_iter().enumerate();
    Policy(grants.map(|(i, raw)| grant(check, &section.index(i), raw)).collect())
}

fn grant(check: &mut Check<'_>, key: &Key, grant: raw::Grant) -> Grant {
    for (name, is_empty) in
        [("identities", grant.identities.is_empty()), ("verbs", grant.verbs.is_empty())]
    {
        if is_empty {
            check.need::<()>(&key.name(name), None, "an entry of [[policy]]");
        }
    }
    check.identities(key, &grant.identities);
    let about_secrets = grant.verbs.iter().any(|verb| *verb != raw::Verb::Observe);
    if about_secrets && grant.secrets.is_empty() && grant.categories.is_empty() {
        check.wrong(key.clone(), "about no secret", "needs secrets, categories, or both");
    }
    Grant {
        identities: patterns(grant.identities),
        secrets: patterns(grant.secrets),
        categories: patterns(grant.categories),
        verbs: grant.verbs.into_iter().map(verb).collect(),
    }
}

const fn verb(verb: raw::Verb) -> Verb {
    match verb {
        raw::Verb::View => Verb::View,
        raw::Verb::Rotate => Verb::Rotate,
        raw::Verb::Rollback => Verb::Rollback,
        raw::Verb::Compromise => Verb::Compromise,
        raw::Verb::Approve => Verb::Approve,
        raw::Verb::BreakGlass => Verb::BreakGlass,
        raw::Verb::Validate => Verb::Validate,
        raw::Verb::Follow => Verb::Follow,
        raw::Verb::Observe => Verb::Observe,
    }
}
