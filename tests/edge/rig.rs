//! A broker with certificates from files.

use std::path::PathBuf;

use crate::{
    caller::Caller,
    pki::{Authority, Leaf, put},
    support::broker::Broker,
};

const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
socket = "DIR/broker.sock"
socket_mode = "0600"
drain = "3s"
[server.limits]
handshake_timeout = "1s"
handshakes = 64
LIMITS
[tls]
source = "files"
cert = "DIR/server.pem"
key = "DIR/server.key"
ca = "DIR/ca.pem"
CRL
[audit]
file = "DIR/audit.log"
[telemetry]
log_filter = "debug"
[[policy]]
identities = ["spiffe://test/ns/shop/sa/api", "unix:**"]
secrets = ["**"]
verbs = ["get", "list", "watch", "report", "observe"]
[secrets.KEY]
category = "application"
store = "dotenv"
file = "DIR/secrets.env"
key = "KEY"
"#;

/// A broker and the authority that it trusts.
pub struct Rig {
    pub authority: Authority,
    pub broker: Broker,
}

impl Rig {
    pub async fn start() -> Self {
        Self::with("", false).await
    }

    /// A broker with more settings under `[server.limits]`, and with a revocation list or not.
    pub async fn with(limits: &str, revocation: bool) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Authority::new("the authority");
        let mut broker = Broker::bare(&[]);
        let crl = if revocation { "crl = \"DIR/crl.pem\"" } else { "" };
        broker.write(&CONFIG.replace("LIMITS", limits).replace("CRL", crl));
        let directory = broker.path("");
        put(&directory, "ca.pem", &authority.pem);
        put(&directory, "crl.pem", &authority.revoke(&[]));
        put(&directory, "secrets.env", "KEY=first\n");
        authority.server().install(&directory, "server");
        broker.run();
        broker.wait().await;
        Self { authority, broker }
    }

    pub fn directory(&self) -> PathBuf {
        self.broker.path("")
    }

    /// Gives the secret another value.
    pub fn set(&self, value: &str) {
        put(&self.directory(), "secrets.env", &format!("KEY={value}\n"));
    }

    /// A caller whom the broker trusts.
    pub fn caller(&self) -> Caller {
        self.caller_as(&self.authority.client())
    }

    pub fn caller_as(&self, leaf: &Leaf) -> Caller {
        Caller::new(&self.authority.pem, leaf, self.broker.address())
    }

    /// How many accesses were recorded.
    pub fn recorded(&self) -> usize {
        self.broker.audit().len()
    }
}
