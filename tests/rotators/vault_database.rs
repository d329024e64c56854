//! What Vault's database engine turns over itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use secret_broker::{
    app::clock::SystemClock,
    config::{
        self, AuthMethod, Credential, VaultAuth,
        operator::targets::vault_database::{VaultDatabase, What},
    },
    domain::{
        budget::BudgetTerms,
        fault::Reason,
        secret::{Fields, SecretValue},
    },
    rotation::{
        ports::{ApiMethod, Change, Generated, Rotator, TargetError, VaultApi},
        rotators::vault_database::VaultDatabaseRotator,
    },
    store::{VersionKey, vault::VaultStore},
};
use serde_json::json;

use crate::{
    common::{COMPROMISED, ROUTINE, done, fault, login, refused, text},
    support::{postgres::Postgres, vault::Vault},
};

struct Rig {
    vault: Vault,
    postgres: Postgres,
}

impl Rig {
    async fn start() -> Self {
        let (vault, postgres) = (Vault::start().await, Postgres::start().await);
        vault.database(&postgres, "1h", "2h").await;
        Self { vault, postgres }
    }

    fn api(&self, token: &str) -> Arc<VaultStore> {
        let token = Credential::Value(SecretValue::new(token));
        let vault = config::Vault {
            address: self.vault.address(),
            namespace: None,
            ca: None,
            client_cert: None,
            server_name: None,
            timeout: Duration::from_secs(30),
            auth: VaultAuth { mount: "token".into(), method: AuthMethod::Token { token } },
            budget: BudgetTerms {
                calls_per_minute: 60_000,
                burst: 10_000,
                probe_min: Duration::from_millis(100),
                probe_max: Duration::from_secs(1),
            },
            in_flight: 16,
            revoke_on_exit: false,
        };
        let versions = Arc::new(VersionKey::generate().unwrap());
        VaultStore::new(&Arc::new(vault), Arc::new(SystemClock), Arc::new(()), versions, 1).unwrap()
    }

    fn rotator(&self, what: What) -> VaultDatabaseRotator {
        let settings = VaultDatabase { mount: "database".to_owned(), what };
        VaultDatabaseRotator::new(settings, self.api(&self.vault.root))
    }

    async fn accepts(&self, value: &Fields) -> bool {
        self.postgres.login(text(value, "username"), text(value, "password")).await.is_ok()
    }
}

fn role() -> What {
    What::StaticRole("fixed".to_owned())
}

async fn facts(rotator: &dyn Rotator) -> BTreeMap<String, String> {
    match rotator.generate(None).await.expect("facts") {
        Generated::InPlace { facts } => facts,
        _ => panic!("it is made in place"),
    }
}

async fn apply(
    rotator: &dyn Rotator,
    facts: &BTreeMap<String, String>,
) -> Result<String, TargetError> {
    rotator.apply(&Change { current: None, new: &Fields::default(), facts }).await
}

#[tokio::test]
async fn a_static_role_is_changed_once_however_often_it_is_applied() {
    let rig = Rig::start().await;
    rig.postgres.execute("CREATE ROLE fixed LOGIN PASSWORD 'before'").await;
    let settings = json!({ "db_name": "main", "username": "fixed", "rotation_period": "24h" });
    rig.vault.write("database/static-roles/fixed", settings).await;
    let rotator = rig.rotator(role());
    assert!(!rotator.is_overlapping());
    let old = rotator.held().await.expect("a value");
    assert!(rig.accepts(&old).await);
    let facts = facts(&rotator).await;
    apply(&rotator, &facts).await.expect("applied");
    let new = rotator.held().await.expect("a value");
    assert!(rig.accepts(&new).await && !rig.accepts(&old).await);
    let seen = apply(&rotator, &facts).await.expect("twice is as once");
    assert!(rotator.held().await.expect("a value") == new, "{seen}");
    rotator.prove(&new).await.expect("it is handed out");
    rotator.prove(&Fields::default()).await.expect("whatever is held is handed out");
    refused(rotator.prove(&old).await);
    done(rotator.revoke(&old, Some(&new), ROUTINE).await.expect("it is gone"));
    done(rotator.revoke(&Fields::default(), None, COMPROMISED).await.expect("nothing to do"));
    assert_eq!(fault(rotator.revoke(&new, None, ROUTINE).await).reason, Reason::Failed);
    for text in [format!("{facts:?}"), seen, rotator.breaks().into_owned()] {
        assert!(!text.contains(self::text(&new, "password")), "{text}");
    }
}

#[tokio::test]
async fn the_login_of_a_connection_is_changed_so_that_nobody_but_vault_has_it() {
    let rig = Rig::start().await;
    rig.postgres.execute("CREATE ROLE vault LOGIN SUPERUSER PASSWORD 'planted-root-4Hq8'").await;
    let url = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
        rig.postgres.port
    );
    let connection = json!({
        "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "connection_url": url,
        "username": "vault", "password": "planted-root-4Hq8",
    });
    rig.vault.write("database/config/main", connection).await;
    let root = |prove_role: Option<&str>| {
        let prove_role = prove_role.map(str::to_owned);
        rig.rotator(What::Root { connection: "main".to_owned(), prove_role })
    };
    let rotator = root(Some("app"));
    assert!(rotator.held().await.expect("an answer").is_empty());
    let facts = facts(&rotator).await;
    for _ in 0..2 {
        apply(&rotator, &facts).await.expect("applied");
        assert!(rig.postgres.login("vault", "planted-root-4Hq8").await.is_err());
        rotator.prove(&Fields::default()).await.expect("Vault makes users");
        root(None).prove(&Fields::default()).await.expect("Vault connects");
    }
    assert_eq!(rig.postgres.leased_users().await, Vec::<String>::new(), "the proof leaves nobody");
    done(rotator.revoke(&Fields::default(), None, COMPROMISED).await.expect("nothing to do"));
    rig.postgres.execute("ALTER ROLE vault PASSWORD 'drifted'").await;
    assert!(fault(root(None).prove(&Fields::default()).await).reason.is_transient());
    assert!(fault(rotator.prove(&Fields::default()).await).reason.is_transient());
}

#[tokio::test]
async fn what_vault_or_the_database_does_not_do_is_a_fault() {
    let mut rig = Rig::start().await;
    let unknown = fault(rig.rotator(role()).generate(None).await.map(|_| ()));
    assert_eq!(unknown.reason, Reason::NotFound, "{unknown}");
    let none = rig.rotator(What::Root { connection: "none".to_owned(), prove_role: None });
    fault(apply(&none, &BTreeMap::new()).await);
    rig.postgres.execute("CREATE ROLE fixed LOGIN PASSWORD 'before'").await;
    let settings = json!({ "db_name": "main", "username": "fixed", "rotation_period": "24h" });
    rig.vault.write("database/static-roles/fixed", settings).await;
    let rotator = rig.rotator(role());
    let facts = facts(&rotator).await;
    rig.postgres.stop();
    let down = fault(apply(&rotator, &facts).await);
    assert!(down.reason.is_transient(), "{down}");

    let policy = "path \"database/static-creds/*\" { capabilities = [\"read\"] }";
    rig.vault.write("sys/policies/acl/reader", json!({ "policy": policy })).await;
    let made = rig.vault.write("auth/token/create", json!({ "policies": ["reader"] })).await;
    let token = made["auth"]["client_token"].as_str().expect("a token");
    let settings = VaultDatabase { mount: "database".to_owned(), what: role() };
    let reader = VaultDatabaseRotator::new(settings, rig.api(token));
    reader.prove(&Fields::default()).await.expect("it may read");
    let denied = fault(apply(&reader, &facts).await);
    assert_eq!(denied.reason, Reason::Forbidden, "{denied}");

    rig.vault.seal().await;
    assert!(fault(apply(&rotator, &facts).await).reason.is_transient());
    rig.vault.stop();
    assert!(fault(rotator.held().await).reason.is_transient());
}

#[tokio::test]
async fn an_answer_shows_nothing_of_what_it_holds() {
    let rig = Rig::start().await;
    rig.postgres.execute("CREATE ROLE fixed LOGIN PASSWORD 'before'").await;
    let settings = json!({ "db_name": "main", "username": "fixed", "rotation_period": "24h" });
    rig.vault.write("database/static-roles/fixed", settings).await;
    let api = rig.api(&rig.vault.root);
    let answer = api.call(ApiMethod::Get, "database/static-creds/fixed", None).await.expect("one");
    let password = answer.data["password"].as_str().expect("a password");
    assert!(!format!("{answer:?}").contains(password));
    refused(rig.rotator(role()).prove(&login("fixed", "planted")).await);
}
