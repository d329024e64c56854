//! Settings → the sidecar's own configuration, as text: only what differs from the defaults.

use std::collections::BTreeMap;

use super::{
    Mistake,
    annotations::whole,
    containers::{
        CA_DIRECTORY, KEY_FILE, RUN_DIRECTORY, SOCKET, STATE_FILE, TLS_DIRECTORY, TOKEN_FILE,
    },
    settings::{CLIENT_CERTIFICATE, Connect, Settings},
};
use crate::config::{
    Config,
    inject::{LogLevel, TlsSource},
    minimal, raw,
    units::Address,
};

/// Whose pod it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
}

impl Identity {
    /// The application's identity in a trust domain.
    pub(super) fn spiffe(&self, trust_domain: &str) -> String {
        format!("spiffe://{trust_domain}/ns/{}/sa/{}", self.namespace, self.service_account)
    }
}

/// The configuration of a pod's sidecar, proven to be one that it takes.
///
/// # Errors
/// Why it would not: an annotation says something that no type of ours knows, such as an address of another form.
pub(super) fn text(
    settings: &Settings,
    identity: &Identity,
    catalogue: &BTreeMap<String, raw::Secret>,
) -> Result<String, Vec<Mistake>> {
    let file = file(settings, identity, catalogue);
    let text = minimal::file(&file).map_err(|error| vec![wrong("", error.to_string())])?;
    let text = format!("# Made from annotations by the injection webhook.\n{text}");
    // Variables are the sidecar's, and so is their content.
    let set_in_the_pod = |name: &str| match name {
        "SPIFFE_ENDPOINT_SOCKET" => Some(settings.workload_api()),
        _ => Some("set in the pod".to_owned()),
    };
    match Config::parse(&text, "config.toml", &set_in_the_pod) {
        Ok(_) => Ok(text),
        Err(mistakes) => Err(mistakes
            .all
            .into_iter()
            .map(|m| wrong(&m.key.to_string(), m.to_string()))
            .collect()),
    }
}

/// A mistake of the sidecar's configuration, at the annotation that most likely made it.
fn wrong(key: &str, what: String) -> Mistake {
    let place = match key {
        "vault.address" => whole("vault-address"),
        "vault.auth.role" => whole("role"),
        "vault.auth.mount" => whole("auth-path"),
        "deployment.environment" => whole("environment"),
        "deployment.colour" => whole("colour"),
        "tls.path" => whole("tls-path"),
        _ => "the sidecar's configuration".to_owned(),
    };
    Mistake {
        place,
        found: what,
        accepted: "neither the pod nor the webhook's configuration may say so".to_owned(),
    }
}

fn file(
    settings: &Settings,
    identity: &Identity,
    catalogue: &BTreeMap<String, raw::Secret>,
) -> raw::File {
    let sidecar = &settings.sidecar;
    let client_id = identity.spiffe(&sidecar.trust_domain);
    let asked = settings.secrets.iter();
    let mut secrets: BTreeMap<_, _> = asked
        .filter_map(|(local, name)| Some((local.clone(), catalogue.get(name)?.clone())))
        .collect();
    let listens = settings.connect == Connect::Port && settings.stays();
    let names: Vec<_> = secrets.keys().cloned().collect();
    let verbs = vec![raw::Verb::Get, raw::Verb::List, raw::Verb::Watch, raw::Verb::Report];
    // Whoever reaches the socket is of this pod: its volume is mounted nowhere else.
    let peers = "unix:uid=*,gid=*".to_owned();
    let identities = vec![client_id.clone(), peers.clone()];
    let mut policy = vec![raw::Grant { identities, secrets: names, categories: Vec::new(), verbs }];
    if listens && sidecar.tls == TlsSource::VaultPki {
        let secret = client_certificate(sidecar.tls_path.clone(), &client_id);
        secrets.insert(CLIENT_CERTIFICATE.to_owned(), secret);
        let user = sidecar.run_as_user.small();
        policy.push(raw::Grant {
            identities: vec![format!("unix:uid={user},gid={}", sidecar.run_as_group.small())],
            secrets: vec![CLIENT_CERTIFICATE.to_owned()],
            categories: Vec::new(),
            verbs: vec![raw::Verb::Get, raw::Verb::Watch],
        });
    }
    let wants_vault = secrets.values().any(|s| s.store == Some(raw::Store::Vault));
    raw::File {
        server: server(settings, listens),
        tls: listens.then(|| tls(settings, client_id)),
        vault: sidecar.vault.clone().filter(|_| wants_vault).map(|v| vault(v, settings, identity)),
        deployment: sidecar.deployment.clone(),
        operator: sidecar.operator.clone().filter(|_| settings.stays()),
        defaults: sidecar.defaults.clone(),
        secrets,
        policy,
        state: settings.stays().then(state),
        telemetry: telemetry(settings),
        ..raw::File::default()
    }
}

fn server(settings: &Settings, listens: bool) -> raw::Server {
    let port = u16::try_from(settings.sidecar.port.small()).unwrap_or_default();
    raw::Server {
        listen: listens.then(|| Address(([127, 0, 0, 1], port).into())),
        socket: Some(SOCKET.into()),
        ..raw::Server::default()
    }
}

fn tls(settings: &Settings, client_id: String) -> raw::Tls {
    let sidecar = &settings.sidecar;
    match sidecar.tls {
        TlsSource::Authority => raw::Tls {
            source: Some(raw::TlsSource::Authority),
            directory: Some(RUN_DIRECTORY.into()),
            client_id: Some(client_id),
            file_mode: Some("0640".to_owned()),
            ..raw::Tls::default()
        },
        TlsSource::VaultPki => raw::Tls {
            source: Some(raw::TlsSource::VaultPki),
            path: sidecar.tls_path.clone(),
            common_name: Some("localhost".to_owned()),
            alt_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            ..raw::Tls::default()
        },
        // The identity that grants are about, and no other that the pod may have.
        TlsSource::Spiffe => raw::Tls {
            source: Some(raw::TlsSource::Spiffe),
            svid: Some(client_id),
            directory: Some(RUN_DIRECTORY.into()),
            file_mode: Some("0640".to_owned()),
            startup_timeout: sidecar.startup_timeout,
            ..raw::Tls::default()
        },
        TlsSource::Files => raw::Tls {
            source: Some(raw::TlsSource::Files),
            cert: Some(format!("{TLS_DIRECTORY}/client.pem").into()),
            key: Some(format!("{TLS_DIRECTORY}/client.key").into()),
            ca: Some(format!("{TLS_DIRECTORY}/ca.pem").into()),
            ..raw::Tls::default()
        },
    }
}

/// What outlives a kill of the sidecar, and ends with the pod.
fn state() -> raw::State {
    raw::State {
        path: Some(STATE_FILE.into()),
        key_file: Some(KEY_FILE.into()),
        generate_key: true,
        ..raw::State::default()
    }
}

/// The application's certificate as a secret: issued anew at two thirds of its life.
fn client_certificate(path: Option<String>, client_id: &str) -> raw::Secret {
    let parameters = [("common_name", "localhost"), ("uri_sans", client_id), ("ttl", "24h")];
    raw::Secret {
        category: Some("certificate".to_owned()),
        store: Some(raw::Store::Vault),
        engine: Some(raw::Engine::Generic),
        path,
        method: Some(raw::Method::Post),
        parameters: parameters.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect(),
        ..raw::Secret::default()
    }
}

fn vault(mut vault: raw::Vault, settings: &Settings, identity: &Identity) -> raw::Vault {
    let role = vault.auth.role.take();
    vault.auth.role = role.map(|role| {
        role.replace("{namespace}", &identity.namespace)
            .replace("{service_account}", &identity.service_account)
    });
    let by_token = matches!(
        vault.auth.method,
        Some(raw::VaultAuthMethod::Kubernetes | raw::VaultAuthMethod::Jwt)
    );
    if by_token {
        vault.auth.token_file = Some(TOKEN_FILE.into());
    }
    if settings.stays() {
        // The state is for kills: at the pod's end nothing may be left, unless the platform says so.
        vault.revoke_on_exit.get_or_insert(true);
    }
    if let Some((_, key)) = &settings.ca {
        vault.ca = Some(format!("{CA_DIRECTORY}/{key}").into());
    }
    vault
}

fn telemetry(settings: &Settings) -> raw::Telemetry {
    let sidecar = &settings.sidecar;
    let port = u16::try_from(sidecar.probe_port.small()).unwrap_or_default();
    let filter = match sidecar.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "info,secret_broker=debug",
        LogLevel::Trace => "info,secret_broker=trace",
    };
    raw::Telemetry {
        log_filter: filter.to_owned(),
        http: settings.stays().then(|| Address((sidecar.probe_address, port).into())),
        ..raw::Telemetry::default()
    }
}
