//! A Vault with labelled secrets, and sidecars that read them.

use std::{sync::Arc, time::Duration};

use secret_broker_client::{Event, Watch};
use serde_json::{Value, json};

use crate::{
    operator::Operator,
    pki::{Authority, put},
    support::{
        broker::Broker,
        until,
        vault::{BROKER_POLICY, Vault},
    },
};

pub const PATH: &str = "secret/data/shop/jwt";

pub struct Rig {
    pub vault: Vault,
    pub operator: Operator,
    pub authority: Arc<Authority>,
    pub ids: (String, String),
}

impl Rig {
    /// A Vault whose `shop/jwt` has version 1, which is current, and an operator.
    pub async fn start() -> Self {
        let vault = Vault::start().await;
        vault
            .write("sys/mounts/secret", json!({ "type": "kv", "options": { "version": "2" } }))
            .await;
        until("the engine is ready", async || {
            let body = Some(json!({ "data": { "secret": "value 1" } }));
            (vault.request("POST", PATH, body).await.0 < 300).then_some(())
        })
        .await;
        let authority = Arc::new(Authority::new("the authority"));
        let operator = Operator::start(&authority).await;
        let ids = vault.approle("broker", BROKER_POLICY, json!({})).await;
        let rig = Self { vault, operator, authority, ids };
        rig.label(json!({ "current": "1" })).await;
        rig
    }

    /// Stores the next version, aside from the labels.
    pub async fn store(&self, number: u64) {
        let body = json!({ "data": { "secret": format!("value {number}") } });
        self.vault.write(PATH, body).await;
    }

    pub async fn label(&self, labels: Value) {
        self.vault.write("secret/metadata/shop/jwt", json!({ "custom_metadata": labels })).await;
    }

    /// Stores a version and makes it current, with the one before accepted for an hour.
    pub async fn promote(&self, number: u64) {
        self.store(number).await;
        let until = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let before = number - 1;
        self.label(json!({
            "current": number.to_string(),
            "previous": before.to_string(),
            "previous_until": until.to_string(),
        }))
        .await;
    }

    /// A sidecar that polls this often.
    pub async fn sidecar(&self, poll_interval: &str) -> Broker {
        let environment = [("ROLE_ID", &*self.ids.0), ("SECRET_ID", &*self.ids.1)];
        let sections = format!(
            "[deployment]\nenvironment = \"production\"\ncolour = \"green\"\n\
             [operator]\naddress = \"https://{}\"\ncert_dir = \"DIR/operator\"\n\
             [vault]\naddress = \"{}\"\n[vault.auth]\nmethod = \"approle\"\n\
             role_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
             [defaults]\npoll_interval = \"{poll_interval}\"\noverlap = \"1h\"\n\
             [secrets.JWT_SECRET]\ncategory = \"application\"\nstore = \"vault\"\nengine = \"kv2\"\n\
             path = \"shop/jwt\"\nfields = {{ value = \"secret\" }}\n",
            self.operator.address,
            self.vault.address(),
        );
        let mut broker = Broker::prepare(&sections, &environment);
        std::fs::create_dir(broker.path("operator")).expect("a directory");
        self.certify(&broker);
        broker.run();
        broker.wait().await;
        broker
    }

    /// Gives a sidecar a new certificate.
    pub fn certify(&self, broker: &Broker) {
        let directory = broker.path("operator");
        put(&directory, "ca.pem", &self.authority.pem);
        self.authority.client().install(&directory, "client");
    }
}

/// Waits for a version on a watch, at most for `within`.
pub async fn arrives(watch: &mut Watch, version: &str, within: Duration) -> Event {
    let find = async {
        loop {
            let event = watch.next().await.expect("the watch goes on").expect("an event");
            if event.secret().is_some_and(|secret| secret.version() == version) {
                return event;
            }
        }
    };
    let found = tokio::time::timeout(within, find).await;
    found.unwrap_or_else(|_| panic!("version {version} did not arrive within {within:?}"))
}
