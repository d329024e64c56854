//! Who may do what.

use std::collections::BTreeMap;

use super::{Check, Key, raw};
use crate::{
    config::Secret,
    domain::{
        policy::{Grant, Pattern, Policy, Verb},
        secret::SecretName,
    },
};

/// Grants in one configuration.
const MAX_GRANTS: usize = 1000;

impl Check<'_> {
    pub(super) fn policy(
        &mut self,
        grants: Vec<raw::Grant>,
        secrets: &BTreeMap<SecretName, Secret>,
    ) -> Policy {
        let key = Key::of("policy");
        if grants.len() > MAX_GRANTS {
            let found = format!("{} entries", grants.len());
            self.wrong(key.clone(), found, format!("expected at most {MAX_GRANTS}"));
        }
        if grants.is_empty() {
            self.warn(key.clone(), "nobody is allowed anything", "add a [[policy]] entry");
        }
        let checked = grants
            .into_iter()
            .enumerate()
            .map(|(i, grant)| self.grant(&key.index(i), grant, secrets))
            .collect();
        Policy(checked)
    }

    fn grant(
        &mut self,
        key: &Key,
        grant: raw::Grant,
        secrets: &BTreeMap<SecretName, Secret>,
    ) -> Grant {
        for (name, is_empty) in
            [("identities", grant.identities.is_empty()), ("verbs", grant.verbs.is_empty())]
        {
            if is_empty && !self.lines.has(&key.name(name)) {
                self.need::<()>(&key.name(name), None, "an entry of [[policy]]");
            }
        }
        self.identities(key, &grant.identities);
        let about_secrets = grant.verbs.iter().any(|verb| *verb != raw::Verb::Observe);
        if about_secrets && grant.secrets.is_empty() && grant.categories.is_empty() {
            self.wrong(key.clone(), "about no secret", "needs secrets, categories, or both");
        }
        let secret_patterns = patterns(grant.secrets);
        let category_patterns = patterns(grant.categories);
        for (i, pattern) in secret_patterns.iter().enumerate() {
            if !secrets.keys().any(|name| pattern.matches(name.as_str())) {
                self.idle(&key.name("secrets").index(i), "no secret has such a name");
            }
        }
        for (i, pattern) in category_patterns.iter().enumerate() {
            if !secrets.values().any(|secret| pattern.matches(&secret.category)) {
                self.idle(&key.name("categories").index(i), "no secret is of such a category");
            }
        }
        Grant {
            identities: patterns(grant.identities),
            secrets: secret_patterns,
            categories: category_patterns,
            verbs: grant.verbs.into_iter().map(verb).collect(),
        }
    }

    pub(in crate::config) fn identities(&mut self, key: &Key, identities: &[String]) {
        for (i, identity) in identities.iter().enumerate() {
            if !["spiffe://", "dns:", "unix:", "*"].iter().any(|form| identity.starts_with(form)) {
                self.wrong(
                    key.name("identities").index(i),
                    "not a pattern of identities",
                    "expected spiffe://…, dns:NAME, unix:uid=UID,gid=GID, or a `*` in front",
                );
            }
        }
    }

    fn idle(&mut self, key: &Key, found: &str) {
        self.warn(key.clone(), found, "the pattern allows nothing now");
    }
}

pub(in crate::config) fn patterns(texts: Vec<String>) -> Vec<Pattern> {
    texts.into_iter().map(Pattern::new).collect()
}

const fn verb(verb: raw::Verb) -> Verb {
    match verb {
        raw::Verb::Get => Verb::Get,
        raw::Verb::List => Verb::List,
        raw::Verb::Watch => Verb::Watch,
        raw::Verb::Report => Verb::Report,
        raw::Verb::Observe => Verb::Observe,
    }
}
