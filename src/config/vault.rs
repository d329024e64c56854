//! A Vault server as the configuration describes it, and how to log in to it.

use std::{path::PathBuf, time::Duration};

use crate::domain::{budget::BudgetTerms, secret::SecretValue};

/// A Vault server and how to log in to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Vault {
    /// Its base address, `https://host:port`.
    pub address: String,
    /// The namespace of all calls.
    pub namespace: Option<String>,
    /// Authorities of its certificate; the system's when absent.
    pub ca: Option<PathBuf>,
    /// A client certificate and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
    /// The name that its certificate has to carry, if not the address's.
    pub server_name: Option<String>,
    /// The time for one call.
    pub timeout: Duration,
    /// The login.
    pub auth: VaultAuth,
    /// How often it may be called.
    pub budget: BudgetTerms,
    /// How many calls may be in flight.
    pub in_flight: usize,
    /// Revoke leases and the token when the broker exits.
    pub revoke_on_exit: bool,
}

/// A way to log in to Vault.
#[derive(Debug, PartialEq, Eq)]
pub struct VaultAuth {
    /// The mount of the auth method, such as `kubernetes`.
    pub mount: String,
    /// The method and what it needs.
    pub method: AuthMethod,
}

/// What an auth method needs. Files are read anew at each login.
#[derive(Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// A Kubernetes service account's token.
    Kubernetes {
        /// The role.
        role: String,
        /// The token's file.
        token_file: PathBuf,
    },
    /// A role id and a secret id.
    AppRole {
        /// The role id.
        role_id: Credential,
        /// The secret id.
        secret_id: Credential,
        /// Whether the secret id is a response-wrapping token that holds it.
        wrapped: bool,
    },
    /// A JSON web token.
    Jwt {
        /// The role.
        role: String,
        /// The token's file.
        token_file: PathBuf,
    },
    /// The client certificate of the connection.
    Cert {
        /// The certificate role; any that matches when absent.
        name: Option<String>,
    },
    /// A user name and password.
    Userpass {
        /// The user name.
        username: String,
        /// The password.
        password: Credential,
    },
    /// A token from elsewhere.
    Token {
        /// The token.
        token: Credential,
    },
}

/// Where a credential for a login is read from.
#[derive(Debug, PartialEq, Eq)]
pub enum Credential {
    /// A file, read anew each time, without surrounding white space.
    File(PathBuf),
    /// An environment variable of the broker, taken at start.
    Value(SecretValue),
}
