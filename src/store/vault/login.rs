//! The ways to log in. Files are read anew at each login, so that rotated ones are picked up.

use std::{fs, path::Path};

use serde::Deserialize;
use vaultrs::{api::AuthInfo, auth, client::VaultClient, error::ClientError, sys::wrapping, token};

use super::{client::Client, fault::Doing};
use crate::{
    config::{AuthMethod, Credential, VaultAuth},
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
    },
};

/// What a login gives.
pub(super) struct Token {
    pub(super) value: SecretValue,
    /// Seconds; zero for a token without an end.
    pub(super) ttl: u64,
    pub(super) renewable: bool,
    /// Seconds; zero where the token tells none.
    pub(super) explicit_max_ttl: u64,
}

#[derive(Deserialize)]
struct Wrapped {
    secret_id: String,
}

/// Logs in.
pub(super) async fn login(client: &Client, vault: &VaultAuth) -> Result<Token, Fault> {
    let mount = vault.mount.as_str();
    match &vault.method {
        AuthMethod::Kubernetes { role, token_file } => {
            let jwt = file(token_file)?;
            by(client, |v: VaultClient| async move {
                auth::kubernetes::login(&v, mount, role, &text(&jwt)).await
            })
            .await
        }
        AuthMethod::AppRole { role_id, secret_id, wrapped } => {
            let role_id = credential(role_id)?;
            let mut secret_id = credential(secret_id)?;
            if *wrapped {
                secret_id = unwrap(client, &secret_id).await?;
            }
            let call = |v: VaultClient| async move {
                auth::approle::login(&v, mount, &text(&role_id), &text(&secret_id)).await
            };
            by(client, call).await
        }
        AuthMethod::Jwt { role, token_file } => {
            let jwt = file(token_file)?;
            let role = Some(role.clone());
            by(client, |v: VaultClient| async move {
                auth::oidc::login(&v, mount, &text(&jwt), role).await
            })
            .await
        }
        AuthMethod::Cert { name } => {
            let name = name.as_deref().unwrap_or_default();
            by(client, |v: VaultClient| async move { auth::cert::login(&v, mount, name).await })
                .await
        }
        AuthMethod::Userpass { username, password } => {
            let password = credential(password)?;
            let call = |v: VaultClient| async move {
                auth::userpass::login(&v, mount, username, &text(&password)).await
            };
            by(client, call).await
        }
        AuthMethod::Token { token } => lookup(client, credential(token)?, Doing::Login).await,
    }
}

/// Asks Vault what a token is worth.
pub(super) async fn lookup(
    client: &Client,
    token: SecretValue,
    doing: Doing,
) -> Result<Token, Fault> {
    let call = |v: VaultClient| async move { token::lookup_self(&v).await };
    let found = client.library("token_lookup", Some(&token), doing, call).await?;
    Ok(Token {
        value: token,
        ttl: found.ttl,
        renewable: found.renewable.unwrap_or_default(),
        explicit_max_ttl: found.explicit_max_ttl,
    })
}

async fn by<F>(client: &Client, call: impl FnOnce(VaultClient) -> F) -> Result<Token, Fault>
where
    F: Future<Output = Result<AuthInfo, ClientError>> + Send,
{
    let info = client.library("login", None, Doing::Login, call).await?;
    Ok(Token {
        value: SecretValue::new(info.client_token),
        ttl: info.lease_duration,
        renewable: info.renewable,
        explicit_max_ttl: 0,
    })
}

/// Unwraps a secret id. A wrapping token works once: a second use means that somebody else had it.
async fn unwrap(client: &Client, wrapping_token: &SecretValue) -> Result<SecretValue, Fault> {
    let call = |v: VaultClient| async move { wrapping::unwrap::<Wrapped>(&v, None).await };
    let unwrapped = client.library("unwrap", Some(wrapping_token), Doing::Login, call).await;
    unwrapped.map(|wrapped| SecretValue::new(wrapped.secret_id)).map_err(|fault| {
        if fault.reason == Reason::Unauthenticated {
            let what = "the wrapped secret id was used before or has ended: if the broker did not \
                        use it, somebody else did";
            return Fault::new(Reason::Unauthenticated, what);
        }
        fault
    })
}

/// Reads a credential for a login.
pub(super) fn credential(credential: &Credential) -> Result<SecretValue, Fault> {
    match credential {
        Credential::File(path) => file(path),
        Credential::Value(value) => Ok(SecretValue::new(value.expose())),
    }
}

fn file(path: &Path) -> Result<SecretValue, Fault> {
    let content = fs::read(path).map(zeroize::Zeroizing::new).map_err(|error| {
        let what = format!("the login can't read {}: {}", path.display(), error.kind());
        Fault::new(Reason::Unauthenticated, what)
    })?;
    Ok(SecretValue::new(content.trim_ascii()))
}

fn text(value: &SecretValue) -> zeroize::Zeroizing<String> {
    zeroize::Zeroizing::new(String::from_utf8_lossy(value.expose()).into_owned())
}
