//! The sections about where secrets come from.

use super::{
    BTreeMap, Count, Deserialize, JsonSchema, LeaseTime, MaxAge, MaxStale, Overlap, PathBuf,
    PollInterval, RetryMax, RetryMin, Serialize, Span, VaultBudget, mins, secs,
};

/// A Vault server and how to log in to it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Vault {
    /// Its base address, `https://HOST:PORT`.
    pub address: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The namespace of all calls.
    pub namespace: Option<String>,
    /// Authorities of its certificate; the system's when absent.
    pub ca: Option<PathBuf>,
    /// A client certificate; needs `client_key`.
    pub client_cert: Option<PathBuf>,
    /// The client certificate's key.
    pub client_key: Option<PathBuf>,
    /// The name that its certificate has to carry, if not the address's.
    pub server_name: Option<String>,
    /// The time for one call.
    pub timeout: Span<{ secs(10) }, 100, { mins(5) }>,
    /// Revoke leases and the token when the broker exits; `true` when absent, unless there is a `[state]` that
    /// keeps them over a restart. With both, they survive a kill alone.
    pub revoke_on_exit: Option<bool>,
    /// The login.
    pub auth: VaultAuth,
    /// How often it may be called.
    pub budget: VaultBudget,
}

/// A way to log in to Vault. Files are read anew at each login, variables once at start.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VaultAuth {
    /// The method.
    pub method: Option<VaultAuthMethod>,
    /// The mount of the auth method; the method's name when absent.
    pub mount: Option<String>,
    /// `kubernetes` and `jwt`: the role. `cert`: the certificate role, any that matches when absent.
    pub role: Option<String>,
    /// `kubernetes`, `jwt` and `token`: the token's file. For `kubernetes` the service account's own when absent.
    pub token_file: Option<PathBuf>,
    /// `token`: the variable that holds the token, in place of `token_file`.
    pub token_env: Option<String>,
    /// `approle`: the role id.
    pub role_id: Option<String>,
    /// `approle`: the file of the role id, in place of `role_id`.
    pub role_id_file: Option<PathBuf>,
    /// `approle`: the variable that holds the role id, in place of `role_id`.
    pub role_id_env: Option<String>,
    /// `approle`: the file of the secret id.
    pub secret_id_file: Option<PathBuf>,
    /// `approle`: the variable that holds the secret id, in place of `secret_id_file`.
    pub secret_id_env: Option<String>,
    /// `approle`: the secret id is a response-wrapping token that holds it.
    pub wrapped: bool,
    /// `userpass`: the user name.
    pub username: Option<String>,
    /// `userpass`: the file of the password.
    pub password_file: Option<PathBuf>,
    /// `userpass`: the variable that holds the password, in place of `password_file`.
    pub password_env: Option<String>,
}

/// A method of logging in to Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum VaultAuthMethod {
    /// A Kubernetes service account's token.
    Kubernetes,
    /// A role id and a secret id.
    Approle,
    /// A JSON web token.
    Jwt,
    /// The client certificate of the connection.
    Cert,
    /// A user name and password.
    Userpass,
    /// A token from elsewhere.
    Token,
}

/// One secret: where it comes from and how it is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Secret {
    /// The category that policies name, such as `database`.
    pub category: Option<String>,
    /// The store it comes from.
    pub store: Option<Store>,
    /// `vault`: the engine, which says how the path is read.
    pub engine: Option<Engine>,
    /// `vault` with `kv1`, `kv2` or `database`: the engine's mount; `secret` or `database` when absent.
    pub mount: Option<String>,
    /// `vault` with `kv1` or `kv2`: the path below the mount. With `generic`: the whole path, such as `aws/creds/app`.
    /// `sealed`: the place in the file; the secret's name when absent.
    pub path: Option<String>,
    /// `vault` with `database`: the dynamic role that mints leased credentials.
    pub role: Option<String>,
    /// `vault` with `database`: the static role whose password Vault rotates, in place of `role`.
    pub static_role: Option<String>,
    /// `vault` with `generic`: the HTTP method; `get` when absent.
    pub method: Option<Method>,
    /// `vault` with `generic`: the query of a `get`, the body of a `post`.
    pub parameters: BTreeMap<String, String>,
    /// The secret's fields and where each is read: a key of Vault's answer (all as they are when empty), a key of the
    /// `.env` file, or a file of the directory.
    pub fields: BTreeMap<String, String>,
    /// `dotenv`: the `.env` file. `sealed`: the encrypted file.
    pub file: Option<PathBuf>,
    /// `sealed`: the file of the age identity that opens it; must not lie in the directory of `file`.
    pub key_file: Option<PathBuf>,
    /// `sealed`: the variable that holds the age identity, in place of `key_file`.
    pub key_env: Option<String>,
    /// `directory`: a directory with one file for each value: Docker secrets or a mounted Kubernetes Secret.
    pub directory: Option<PathBuf>,
    /// `dotenv` and `directory`: the one key or file to read as the field `value`, in place of `fields`; the
    /// secret's name when both are absent.
    pub key: Option<String>,
    /// `memory`: the fields and what is generated for each; a random `value` when empty.
    pub generate: BTreeMap<String, Generate>,
    /// `memory`: the lease's time; without a lease when absent.
    pub ttl: Option<LeaseTime>,
    /// `memory`: the most that renewals can carry the lease.
    pub max_ttl: Option<LeaseTime>,
    /// In place of `defaults.prefetch`.
    pub prefetch: Option<bool>,
    /// In place of `defaults.poll_interval`.
    pub poll_interval: Option<PollInterval>,
    /// In place of `defaults.max_stale`.
    pub max_stale: Option<MaxStale>,
    /// In place of `defaults.overlap`.
    pub overlap: Option<Overlap>,
    /// In place of `defaults.retry_min`.
    pub retry_min: Option<RetryMin>,
    /// In place of `defaults.retry_max`.
    pub retry_max: Option<RetryMax>,
    /// The most that a version may age before it is replaced, whatever its store says; unbounded when absent.
    pub max_age: Option<MaxAge>,
}

/// A store of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Store {
    /// A Vault server.
    Vault,
    /// A `.env` file.
    Dotenv,
    /// A directory of files.
    Directory,
    /// An encrypted file, for emergencies and for machines without a secrets manager.
    Sealed,
    /// Generated values, for development.
    Memory,
}

/// An engine of Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Engine {
    /// Key-value, version 1.
    Kv1,
    /// Key-value, version 2.
    Kv2,
    /// Database credentials.
    Database,
    /// Any engine, by its whole path.
    Generic,
}

/// The method of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Method {
    /// Read.
    Get,
    /// Write.
    Post,
}

/// What the memory store generates for a field: either a fixed text or random characters.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Generate {
    /// This text; for development only, since it is readable here.
    pub literal: Option<String>,
    /// Text before the random characters.
    pub prefix: String,
    /// How many random characters.
    pub random: Count<32, 8, 1024>,
}
