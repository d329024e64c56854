//! What differs between the Vault Agent Injector and us, and whether an application could tell.

/// A switch, how it stands here, whether the application can tell, and what differs if it stands otherwise.
pub(super) const ANYWAY: [(&str, bool, Felt, &str); 7] = [
    ("agent-pre-populate", true, Felt::No, "the pod always waits for its secrets"),
    ("agent-revoke-on-shutdown", true, Felt::No, "leases and token are always revoked at the end"),
    (
        "tls-skip-verify",
        false,
        Felt::No,
        "Vault's certificate is always checked; name its authorities by ca-config-map",
    ),
    ("agent-set-security-context", true, Felt::No, "a restricted security context is always set"),
    ("agent-inject-token", false, Felt::Yes, "no token of Vault is handed to the application"),
    (
        "agent-cache-enable",
        false,
        Felt::Yes,
        "there is no listener that speaks Vault's API: read from the broker",
    ),
    (
        "error-on-missing-key",
        true,
        Felt::No,
        "a missing field is always an error and never an empty place",
    ),
];

/// What the injector's own containers make of their work, and ours of theirs.
pub(super) const INNER: [&str; 14] = [
    "agent-auto-auth-exit-on-err",
    "agent-cache-exit-on-err",
    "agent-cache-listener-port",
    "agent-cache-use-auto-auth-token",
    "agent-disable-idle-connections",
    "agent-disable-keep-alives",
    "agent-limits-ephemeral",
    "agent-requests-ephemeral",
    "agent-revoke-grace",
    "client-max-retries",
    "client-timeout",
    "go-max-procs",
    "template-config-exit-on-retry-failure",
    "template-max-connections-per-host",
];

/// Whether the application could tell that something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Felt {
    /// Files, names, rights or what runs are not what they were.
    Yes,
    /// It concerns the injected containers alone.
    No,
}

/// Something that can't be kept as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The annotation.
    pub annotation: String,
    /// What differs, and what to do about it.
    pub what: String,
    /// Whether the application could tell.
    pub felt: Felt,
}
