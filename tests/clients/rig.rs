//! What a client is tested on: real Vault, `PostgreSQL`, Redis and sidecar, whose secrets and certificates can be
//! turned over at will.
//!
//! A secret is rotated by moving it between two places of its store: the sidecar is told by SIGHUP and replaces the
//! version at once, with overlap. The rig itself reads metadata only, so that it is no reader who is waited for.

use std::{collections::BTreeSet, fmt::Write};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use secret_broker_client::Client;
use serde_json::json;

use crate::{
    certificates::{APPLICATION, Certificates, OPERATOR},
    support::{
        broker::Broker,
        free_port,
        postgres::Postgres,
        proxy::{Fault, Proxy},
        redis::{self, Redis},
        until,
        vault::{BROKER_POLICY, Vault},
    },
};

/// The secrets that the application may read, while nothing is taken away.
const GRANTED: [&str; 6] = ["DB", "CACHE", "JWT", "API_KEY", "SLOW", "MISSING_AT_SOURCE"];
/// The two places that a secret moves between.
const PLACES: [&str; 2] = ["a", "b"];

pub struct Rig {
    pub postgres: Postgres,
    pub redis: Redis,
    vault: Vault,
    proxy: Proxy,
    pub broker: Broker,
    certificates: Certificates,
    port: u16,
    /// How often each secret was moved.
    moves: [(&'static str, usize); 3],
    taken_away: BTreeSet<String>,
    /// What the JWT secret's `next` is, to become its `value`.
    next_key: String,
}

impl Rig {
    /// A rig whose sidecar serves all its secrets.
    pub async fn start() -> Self {
        let (postgres, vault, redis) =
            tokio::join!(Postgres::start(), Vault::start(), Redis::start());
        postgres
            .execute(
                "CREATE TABLE notes (id bigserial PRIMARY KEY, text text NOT NULL);\
                 GRANT ALL ON notes, notes_id_seq TO PUBLIC",
            )
            .await;
        engines(&vault, &postgres, &redis).await;
        let proxy = Proxy::start(vault.port()).await;
        proxy.set(Fault::Hang("secret/data/slow"));
        let (role, secret) = vault.approle("broker", BROKER_POLICY, json!({})).await;
        let broker = Broker::bare(&[("ROLE_ID", &role), ("SECRET_ID", &secret)]);
        let certificates = Certificates::issue(broker.directory.path());
        let mut rig = Self {
            postgres,
            redis,
            vault,
            proxy,
            broker,
            certificates,
            port: free_port(),
            moves: ["DB", "CACHE", "JWT"].map(|name| (name, 0)),
            taken_away: BTreeSet::new(),
            next_key: random(),
        };
        rig.next_jwt_key(PLACES[0]).await;
        rig.configure();
        rig.run().await;
        rig
    }

    /// The variables that tell a client's tests where everything is.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |name| self.broker.path(name).display().to_string();
        vec![
            ("SECRET_BROKER_ADDRESS", self.address()),
            ("SECRET_BROKER_CERT_DIR", path("tls")),
            ("RIG_SOCKET", format!("unix://{}", path("broker.sock"))),
            ("RIG_WRONG_CERT_DIR", path("wrong-tls")),
            ("RIG_PG", format!("postgresql://127.0.0.1:{}/postgres", self.postgres.port)),
            ("RIG_REDIS", format!("127.0.0.1:{}", self.redis.port)),
        ]
    }

    pub fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Replaces a secret, and returns the generation that is served then.
    pub async fn rotate(&mut self, name: &str) -> Result<u64, String> {
        let moved = self.moves.iter_mut().find(|(moving, _)| *moving == name);
        let (_, times) = moved.ok_or_else(|| format!("{name} can't be rotated"))?;
        *times += 1;
        let place = PLACES[*times % 2];
        if name == "JWT" {
            self.next_jwt_key(place).await;
        }
        let before = self.generation(name).await;
        self.configure();
        self.reload();
        let what = format!("{name} is replaced");
        Ok(until(&what, async || {
            Some(self.generation(name).await).filter(|&generation| generation > before)
        })
        .await)
    }

    /// Takes the application's right to a secret away, or gives it back.
    pub async fn grant(&mut self, name: &str, granted: bool) {
        if granted {
            self.taken_away.remove(name);
        } else {
            self.taken_away.insert(name.to_owned());
        }
        let before = self.configurations();
        self.configure();
        self.reload();
        until("the policy is in force", async || (self.configurations() > before).then_some(()))
            .await;
    }

    /// Issues new certificates by a new authority, and waits until the sidecar uses them. The authority before is
    /// trusted on, unless it is to be forgotten.
    pub async fn turn_certificates_over(&mut self, forget: bool) {
        self.certificates.turn_over(forget);
        // Trusts the new authority alone.
        self.serves().await;
    }

    /// Drops all leased users behind the sidecar's back. Their sessions go on.
    pub async fn drop_users(&self) {
        for user in self.postgres.leased_users().await {
            self.postgres.execute(&format!("DROP ROLE \"{user}\"")).await;
        }
    }

    /// Whether a server (`postgres` or `redis`) accepts a login.
    pub async fn accepts(&self, login: &serde_json::Value) -> bool {
        let text = |key: &str| login[key].as_str().unwrap_or_default();
        let (user, password) = (text("username"), text("password"));
        match text("server") {
            "redis" => self.redis.login(user, password).await.is_ok(),
            _ => self.postgres.login(user, password).await.is_ok(),
        }
    }

    /// Ends the sidecar as a crash would.
    pub fn kill(&mut self) {
        self.broker.kill();
    }

    /// Starts the sidecar and waits until it serves.
    pub async fn run(&mut self) {
        self.broker.run();
        self.serves().await;
    }

    async fn serves(&self) {
        until("the broker serves what it fetches at start", async || {
            let listed = self.client().list(None).await.ok()?;
            let waits = |name: &str| !["SLOW", "MISSING_AT_SOURCE"].contains(&name);
            listed.iter().all(|m| m.generation > 0 || !waits(&m.name)).then_some(())
        })
        .await;
    }

    async fn generation(&self, name: &str) -> u64 {
        let listed = self.client().list(None).await.expect("a list");
        listed.iter().find(|m| m.name == name).map_or(0, |m| m.generation)
    }

    /// The rig's own view of the secrets, without values.
    fn client(&self) -> Client {
        let builder = Client::builder().address(self.address());
        builder.cert_dir(self.broker.path("operator-tls")).build().expect("a client")
    }

    fn reload(&self) {
        self.broker.signal(rustix::process::Signal::HUP);
    }

    /// How many configurations were put in force.
    fn configurations(&self) -> usize {
        self.broker.log().matches("configuration in force").count()
    }

    fn place(&self, name: &str) -> &'static str {
        let moved = self.moves.iter().find(|(moving, _)| *moving == name);
        moved.map_or(PLACES[0], |(_, times)| PLACES[times % 2])
    }

    fn configure(&self) {
        let granted = GRANTED.iter().filter(|name| !self.taken_away.contains(**name));
        let granted = granted.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "watch_file = false\n\
             [server]\nlisten = \"127.0.0.1:{port}\"\nsocket = \"DIR/broker.sock\"\nsocket_mode = \"0600\"\ndrain = \"1s\"\n\
             [tls]\nsource = \"files\"\ncert = \"DIR/server-tls/server.pem\"\nkey = \"DIR/server-tls/server.key\"\n\
             ca = \"DIR/server-tls/ca.pem\"\n\
             [audit]\nfile = \"DIR/audit.log\"\n\
             [telemetry]\nlog_filter = \"info\"\n\
             [vault]\naddress = \"{vault}\"\ntimeout = \"5m\"\n\
             [vault.auth]\nmethod = \"approle\"\nrole_id_env = \"ROLE_ID\"\nsecret_id_env = \"SECRET_ID\"\n\
             [vault.budget]\ncalls_per_minute = 100000\nburst = 100000\n\
             [defaults]\noverlap = \"30s\"\nretry_min = \"200ms\"\nretry_max = \"1s\"\n\
             [[policy]]\nidentities = [\"{APPLICATION}\", \"unix:**\"]\nsecrets = [{granted}]\n\
             verbs = [\"get\", \"list\", \"watch\", \"report\"]\n\
             [[policy]]\nidentities = [\"{OPERATOR}\"]\nsecrets = [\"**\"]\nverbs = [\"list\"]\n\
             [secrets.FORBIDDEN]\ncategory = \"application\"\nstore = \"memory\"\n",
            port = self.port,
            vault = self.proxy.address(),
        );
        for (name, settings) in [
            ("DB", format!("engine = \"database\"\nrole = \"db-{}\"", self.place("DB"))),
            ("CACHE", format!("engine = \"database\"\nrole = \"cache-{}\"", self.place("CACHE"))),
            ("JWT", format!("engine = \"kv2\"\npath = \"jwt-{}\"", self.place("JWT"))),
            ("API_KEY", "engine = \"kv2\"\npath = \"api-key\"".to_owned()),
            ("SLOW", "engine = \"kv2\"\npath = \"slow\"\nprefetch = false".to_owned()),
            ("MISSING_AT_SOURCE", "engine = \"kv2\"\npath = \"none\"\nprefetch = false".to_owned()),
        ] {
            let database = settings.contains("database");
            let category = if database { "database" } else { "application" };
            let _ = write!(
                text,
                "[secrets.{name}]\ncategory = \"{category}\"\nstore = \"vault\"\n{settings}\n"
            );
        }
        self.broker.write(&text);
    }

    /// Writes the next generation of the JWT secret: what was announced as next signs now.
    async fn next_jwt_key(&mut self, place: &str) {
        let next = random();
        let value = std::mem::replace(&mut self.next_key, next);
        let body = json!({ "data": { "value": value, "next": self.next_key } });
        self.vault.write(&format!("secret/data/jwt-{place}"), body).await;
    }
}

async fn engines(vault: &Vault, postgres: &Postgres, redis: &Redis) {
    vault.database(postgres, "1h", "2h").await;
    let connection = json!({
        "plugin_name": "redis-database-plugin", "allowed_roles": "*", "host": "127.0.0.1",
        "port": redis.port, "username": "default", "password": redis::PASSWORD,
    });
    vault.write("database/config/cache", connection).await;
    for place in PLACES {
        let user = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';";
        let role = json!({
            "db_name": "main", "creation_statements": [user], "default_ttl": "1h", "max_ttl": "2h",
        });
        vault.write(&format!("database/roles/db-{place}"), role).await;
        let role = json!({
            "db_name": "cache", "creation_statements": "[\"~*\", \"&*\", \"+@all\"]",
            "default_ttl": "1h", "max_ttl": "2h",
        });
        vault.write(&format!("database/roles/cache-{place}"), role).await;
    }
    let mount = json!({ "type": "kv", "options": { "version": "2" } });
    vault.write("sys/mounts/secret", mount).await;
    until("the engine is ready", async || {
        let body = json!({ "data": { "value": "api-key-of-the-rig" } });
        let (status, _) = vault.request("POST", "secret/data/api-key", Some(body)).await;
        (status < 300).then_some(())
    })
    .await;
}

/// 256 bits as text.
fn random() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("random bytes");
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
