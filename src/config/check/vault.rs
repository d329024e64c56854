//! The Vault server and the login.

use std::collections::BTreeMap;

use super::{Check, Key, raw};
use crate::{
    config::{AuthMethod, Credential, Vault, VaultAuth},
    domain::{budget::BudgetTerms, secret::SecretValue},
};

/// Where Kubernetes mounts a pod's own token.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

const AUTH_KEYS: [(&str, &[&str]); 12] = [
    ("role", &["kubernetes", "jwt", "cert"]),
    ("token_file", &["kubernetes", "jwt", "token"]),
    ("token_env", &["token"]),
    ("role_id", &["approle"]),
    ("role_id_file", &["approle"]),
    ("role_id_env", &["approle"]),
    ("secret_id_file", &["approle"]),
    ("secret_id_env", &["approle"]),
    ("wrapped", &["approle"]),
    ("username", &["userpass"]),
    ("password_file", &["userpass"]),
    ("password_env", &["userpass"]),
];

impl Check<'_> {
    /// What asks for a Vault server, if anything does.
    #[expect(clippy::unused_self, reason = "reads as the other checks do")]
    pub(in crate::config) fn wants_vault(
        &self,
        secrets: &BTreeMap<String, raw::Secret>,
        tls: Option<&raw::Tls>,
    ) -> Option<String> {
        if tls.and_then(|tls| tls.source) == Some(raw::TlsSource::VaultPki) {
            return Some("tls.source = \"vault-pki\"".to_owned());
        }
        let (name, _) = secrets.iter().find(|(_, s)| s.store == Some(raw::Store::Vault))?;
        Some(Key::of("secrets").name(name).to_string())
    }

    pub(in crate::config) fn vault(
        &mut self,
        wanted_by: Option<String>,
        vault: Option<raw::Vault>,
        keeps_state: bool,
    ) -> Option<Option<Vault>> {
        let key = Key::of("vault");
        let Some(vault) = vault else {
            return match wanted_by {
                Some(by) => self.need::<()>(&key, None, &by).map(|()| None),
                None => Some(None),
            };
        };
        let address = self.address(&key.name("address"), vault.address, vault.allow_plaintext);
        let client_cert = self.client_cert(&key, vault.client_cert, vault.client_key);
        let ca = self.some_path(&key.name("ca"), vault.ca);
        let auth = self.auth(&key.name("auth"), vault.auth);
        if let (Some(VaultAuth { method: AuthMethod::Cert { .. }, .. }), Some(None)) =
            (&auth, &client_cert)
        {
            self.need::<()>(&key.name("client_cert"), None, "auth.method = \"cert\"");
        }
        let budget = self.budget(&key.name("budget"), &vault.budget);
        Some(Some(Vault {
            address: address?,
            namespace: vault.namespace.filter(|n| !n.is_empty()),
            ca: ca?,
            client_cert: client_cert?,
            server_name: vault.server_name,
            timeout: vault.timeout.duration(),
            auth: auth?,
            in_flight: vault.budget.in_flight.size(),
            budget: budget?,
            revoke_on_exit: vault.revoke_on_exit.unwrap_or(!keeps_state),
        }))
    }

    fn address(&mut self, key: &Key, address: Option<String>, plaintext: bool) -> Option<String> {
        self.url(key, address, plaintext, "[vault]", "expected https://HOST:PORT")
    }

    /// The address of a service, without a login, a query or a fragment; `by` needs it, and `form`
    /// says what is accepted. Plain text leaves this machine only where that was asked for.
    pub(in crate::config) fn url(
        &mut self,
        key: &Key,
        address: Option<String>,
        plaintext: bool,
        by: &str,
        form: &str,
    ) -> Option<String> {
        let address = self.need(key, address, by)?;
        let Ok(url) = reqwest::Url::parse(&address) else {
            self.wrong(key.clone(), "not a URL", form);
            return None;
        };
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_bare || !url.has_host() || !matches!(url.scheme(), "http" | "https") {
            self.wrong(key.clone(), "a URL of another form", form);
            return None;
        }
        if url.scheme() == "http" && !is_loopback(&url) && !plaintext {
            self.wrong(
                key.clone(),
                "http:// to another machine, where tokens and secrets could be read on the way",
                "expected https://, or allow_plaintext = true beside it",
            );
            return None;
        }
        Some(address.trim_end_matches('/').to_owned())
    }

    fn client_cert(
        &mut self,
        section: &Key,
        cert: Option<std::path::PathBuf>,
        key: Option<std::path::PathBuf>,
    ) -> Option<Option<(std::path::PathBuf, std::path::PathBuf)>> {
        if cert.is_none() && key.is_none() {
            return Some(None);
        }
        let cert = self.path(&section.name("client_cert"), cert, "vault.client_key");
        let key = self.path(&section.name("client_key"), key, "vault.client_cert");
        Some(Some((cert?, key?)))
    }

    fn budget(&mut self, key: &Key, budget: &raw::VaultBudget) -> Option<BudgetTerms> {
        let terms = BudgetTerms {
            calls_per_minute: budget.calls_per_minute.small(),
            burst: budget.burst.small(),
            probe_min: budget.probe_min.duration(),
            probe_max: budget.probe_max.duration(),
        };
        if terms.probe_min > terms.probe_max {
            self.wrong(
                key.name("probe_min"),
                "longer than probe_max",
                "expected at most probe_max",
            );
            return None;
        }
        Some(terms)
    }

    fn auth(&mut self, key: &Key, auth: raw::VaultAuth) -> Option<VaultAuth> {
        let raw_method = self.need(&key.name("method"), auth.method, "[vault]")?;
        let name = match raw_method {
            raw::VaultAuthMethod::Kubernetes => "kubernetes",
            raw::VaultAuthMethod::Approle => "approle",
            raw::VaultAuthMethod::Jwt => "jwt",
            raw::VaultAuthMethod::Cert => "cert",
            raw::VaultAuthMethod::Userpass => "userpass",
            raw::VaultAuthMethod::Token => "token",
        };
        self.only(key, name, &AUTH_KEYS);
        let mount = auth.mount.clone().unwrap_or_else(|| name.to_owned());
        let mount = self.vault_path(&key.name("mount"), Some(mount), "[vault.auth]");
        let method = self.method(key, raw_method, &format!("method = \"{name}\""), auth);
        Some(VaultAuth { mount: mount?, method: method? })
    }

    fn method(
        &mut self,
        key: &Key,
        method: raw::VaultAuthMethod,
        by: &str,
        auth: raw::VaultAuth,
    ) -> Option<AuthMethod> {
        match method {
            raw::VaultAuthMethod::Kubernetes => {
                let file = auth.token_file.unwrap_or_else(|| SERVICE_ACCOUNT_TOKEN.into());
                let role = self.text(&key.name("role"), auth.role, by);
                let token_file = self.path(&key.name("token_file"), Some(file), by);
                Some(AuthMethod::Kubernetes { role: role?, token_file: token_file? })
            }
            raw::VaultAuthMethod::Jwt => {
                let role = self.text(&key.name("role"), auth.role, by);
                let token_file = self.path(&key.name("token_file"), auth.token_file, by);
                Some(AuthMethod::Jwt { role: role?, token_file: token_file? })
            }
            raw::VaultAuthMethod::Approle => {
                let role_id = match auth.role_id.filter(|id| !id.is_empty()) {
                    Some(id) if auth.role_id_file.is_none() && auth.role_id_env.is_none() => {
                        Some(Credential::Value(SecretValue::new(id)))
                    }
                    Some(_) => {
                        let accepted = "expected one of role_id, role_id_file and role_id_env";
                        self.wrong(key.name("role_id"), "given twice", accepted);
                        None
                    }
                    None => {
                        self.credential(key, "role_id", (auth.role_id_file, auth.role_id_env), by)
                    }
                };
                let secret = (auth.secret_id_file, auth.secret_id_env);
                let secret_id = self.credential(key, "secret_id", secret, by);
                let wrapped = auth.wrapped;
                Some(AuthMethod::AppRole { role_id: role_id?, secret_id: secret_id?, wrapped })
            }
            raw::VaultAuthMethod::Cert => Some(AuthMethod::Cert { name: auth.role }),
            raw::VaultAuthMethod::Userpass => {
                let username = self.text(&key.name("username"), auth.username, by);
                let password = (auth.password_file, auth.password_env);
                let password = self.credential(key, "password", password, by);
                Some(AuthMethod::Userpass { username: username?, password: password? })
            }
            raw::VaultAuthMethod::Token => {
                let token = self.credential(key, "token", (auth.token_file, auth.token_env), by)?;
                Some(AuthMethod::Token { token })
            }
        }
    }

    /// A path below Vault's `/v1/`, without slashes around it.
    pub(in crate::config) fn vault_path(
        &mut self,
        key: &Key,
        path: Option<String>,
        by: &str,
    ) -> Option<String> {
        let path = self.text(key, path, by)?;
        let path = path.trim_matches('/');
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%' | b'\\');
        let is_step = |step: &str| !matches!(step, "" | "." | "..");
        if path.bytes().all(plain) && path.split('/').all(is_step) {
            return Some(path.to_owned());
        }
        self.wrong(
            key.clone(),
            "not a path of Vault",
            "expected steps separated by `/`, such as `aws/creds/app`",
        );
        None
    }
}

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}
