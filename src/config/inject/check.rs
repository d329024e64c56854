//! [`raw::File`] → [`InjectConfig`]: what one key's type can't say, and what keys say about each other.

#![expect(clippy::option_option, reason = "a section that is absent is not one that is wrong")]

use std::collections::BTreeMap;

use super::{Grant, InjectConfig, Kept, Limits, Webhook, raw};
use crate::config::{
    SecretOrigin,
    check::{Check, policy::patterns},
    mistake::Key,
    operator::kubernetes::{self, Kubernetes},
    raw::Secret,
    units::Address,
};

/// Grants in one configuration.
const MAX_GRANTS: usize = 10_000;
/// Where HTTPS is served unless told.
const LISTEN: ([u8; 4], u16) = ([0, 0, 0, 0], 8443);

pub(super) fn file(check: &mut Check<'_>, file: raw::File) -> Option<InjectConfig> {
    let raw::File { webhook, sidecar, secrets, grant, kubernetes, telemetry } = file;
    let kubernetes = cluster(check, kubernetes, &webhook);
    // What the sidecars' own checks would say of the catalogue is said here, before any pod meets it.
    let checked = check.secrets(&sidecar.defaults, secrets.clone());
    let places = checked.into_iter().filter_map(|(name, secret)| match secret.origin {
        SecretOrigin::Vault(place) => Some((name.to_string(), place)),
        _ => None,
    });
    let places = places.collect();
    let webhook = self::webhook(check, webhook);
    let sidecar = self::sidecar(check, sidecar, &secrets);
    let grants = grants(check, grant, &secrets);
    let telemetry = check.telemetry(telemetry);
    Some(InjectConfig {
        webhook: webhook?,
        sidecar: sidecar?,
        secrets,
        places,
        grants,
        kubernetes: kubernetes?,
        telemetry: telemetry?,
    })
}

fn webhook(check: &mut Check<'_>, webhook: raw::Webhook) -> Option<Webhook> {
    let key = Key::of("webhook");
    let by = "[webhook]";
    let namespace = check.text(&key.name("namespace"), webhook.namespace, by);
    let mut names = webhook.names;
    match (&webhook.service, &namespace) {
        (Some(service), Some(namespace)) => {
            let whole = format!("{service}.{namespace}.svc");
            names.splice(0..0, [whole.clone(), format!("{whole}.cluster.local")]);
        }
        (None, _) if names.is_empty() => {
            let accepted = "needs service = \"NAME\", names = [\"HOST\"], or both";
            check.wrong(key.clone(), "no name for its certificate", accepted);
        }
        _ => {}
    }
    for (at, name) in names.iter().enumerate() {
        if rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
            let accepted = "expected a DNS name or an IP address";
            check.wrong(key.name("names").index(at), "not a host's name", accepted);
        }
    }
    let certificate = key.name("certificate");
    let raw::Certificate { directory, secret, ttl } = webhook.certificate;
    let kept = match (directory, secret) {
        (Some(directory), None) => Some(Kept::Directory(directory)),
        (None, Some(secret)) => Some(Kept::Secret(secret)),
        _ => {
            check.wrong(certificate, "not one place", "expected either directory or secret");
            None
        }
    };
    let mut excluded = webhook.excluded_namespaces;
    excluded.extend(namespace.clone());
    let limits = webhook.limits;
    Some(Webhook {
        listen: webhook.listen.map_or_else(|| LISTEN.into(), |Address(listen)| listen),
        namespace: namespace?,
        names,
        excluded,
        vault_annotations: webhook.vault_annotations,
        mutating: webhook.mutating_configuration,
        validating: webhook.validating_configuration,
        kept: kept?,
        ttl: ttl.duration(),
        limits: Limits {
            connections: limits.connections.size(),
            request_timeout: limits.request_timeout.duration(),
            request_bytes: limits.request_bytes.size(),
            connection_time: limits.connection_time.duration(),
        },
    })
}

/// The cluster, which some of the webhook's settings need.
fn cluster(
    check: &mut Check<'_>,
    raw: Option<raw::Cluster>,
    webhook: &raw::Webhook,
) -> Option<Option<Kubernetes>> {
    let needs = [
        ("webhook.certificate.secret", &webhook.certificate.secret),
        ("webhook.mutating_configuration", &webhook.mutating_configuration),
        ("webhook.validating_configuration", &webhook.validating_configuration),
    ];
    let Some(raw::Cluster { server, token_file, ca_file, timeout }) = raw else {
        let by = needs.into_iter().find(|(_, value)| value.is_some());
        if let Some((by, _)) = by {
            check.need::<()>(&Key::of("kubernetes"), None, by);
        }
        return by.is_none().then_some(None);
    };
    let raw = kubernetes::Raw { server, token_file, ca_file, ..kubernetes::Raw::default() };
    let cluster = kubernetes::check(check, Some(raw), kubernetes::LeadershipRaw::default())?;
    let namespace = webhook.namespace.clone();
    Some(cluster.map(|cluster| Kubernetes { namespace, timeout: timeout.duration(), ..cluster }))
}

fn sidecar(
    check: &mut Check<'_>,
    sidecar: raw::Sidecar,
    secrets: &BTreeMap<String, Secret>,
) -> Option<raw::Sidecar> {
    let key = Key::of("sidecar");
    check.text(&key.name("image"), sidecar.image.clone(), "[sidecar]")?;
    let domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    if sidecar.trust_domain.is_empty() || !sidecar.trust_domain.bytes().all(domain) {
        let accepted = "expected a name such as \"cluster.local\"";
        check.wrong(key.name("trust_domain"), "not a trust domain", accepted);
    }
    if !sidecar.files_directory.is_absolute() {
        check.wrong(key.name("files_directory"), "not an absolute path", "expected one");
    }
    if !is_file(&sidecar.spiffe_socket) {
        let accepted = "expected a file's name, such as \"spire-agent.sock\"";
        check.wrong(key.name("spiffe_socket"), "not a file's name", accepted);
    }
    if sidecar.vault.is_none() {
        check
            .wants_vault(secrets, None)
            .and_then(|by| check.need::<()>(&key.name("vault"), None, &by));
    }
    if sidecar.port.small() == sidecar.probe_port.small() {
        check.wrong(key.name("probe_port"), "the port of the broker", "expected another");
    }
    Some(sidecar)
}

fn is_file(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !matches!(name, "" | "." | "..") && name.bytes().all(allowed)
}

fn grants(
    check: &mut Check<'_>,
    grants: Vec<raw::Grant>,
    secrets: &BTreeMap<String, Secret>,
) -> Vec<Grant> {
    let key = Key::of("grant");
    if grants.len() > MAX_GRANTS {
        let found = format!("{} entries", grants.len());
        check.wrong(key.clone(), found, format!("expected at most {MAX_GRANTS}"));
    }
    if grants.is_empty() {
        check.warn(key.clone(), "no pod may read anything", "add a [[grant]] entry");
    }
    grants
        .into_iter()
        .enumerate()
        .map(|(at, grant)| self::grant(check, &key.index(at), grant, secrets))
        .collect()
}

fn grant(
    check: &mut Check<'_>,
    key: &Key,
    grant: raw::Grant,
    secrets: &BTreeMap<String, Secret>,
) -> Grant {
    let needed = [("namespaces", &grant.namespaces), ("service_accounts", &grant.service_accounts)];
    for (name, patterns) in needed {
        if patterns.is_empty() {
            check.need::<()>(&key.name(name), None, "an entry of [[grant]]");
        }
    }
    if grant.secrets.is_empty() && grant.categories.is_empty() && !grant.own_configuration {
        let accepted = "needs secrets, categories, own_configuration, or several of them";
        check.wrong(key.clone(), "about no secret", accepted);
    }
    let grant = Grant {
        namespaces: patterns(grant.namespaces),
        service_accounts: patterns(grant.service_accounts),
        secrets: patterns(grant.secrets),
        categories: patterns(grant.categories),
        own_configuration: grant.own_configuration,
    };
    for (at, pattern) in grant.secrets.iter().enumerate() {
        if !secrets.keys().any(|name| pattern.matches(name)) {
            let found = "no secret of the catalogue has such a name";
            let accepted = "the pattern allows nothing now";
            check.warn(key.name("secrets").index(at), found, accepted);
        }
    }
    grant
}
