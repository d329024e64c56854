//! The real servers: Vault with `PostgreSQL` behind it, and everyone who serves its secret.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use secret_broker_client::proto::GetSecretRequest;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    certificates, echo,
    load::{Ask, Target},
    process,
    support::{
        Running, free_port,
        postgres::Postgres,
        tool, until,
        vault::{BROKER_POLICY, Vault},
    },
};

/// How many leases the memory comparison holds; Vault has a role for each.
pub const LEASES: usize = 1000;

pub struct Rig {
    pub vault: Vault,
    pub directory: TempDir,
    _postgres: Postgres,
}

/// A server of the secret that runs.
pub struct Contender {
    pub name: &'static str,
    pub target: Target,
    process: Running,
}

impl Contender {
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Waits until it gives the secret.
    pub async fn ready(self) -> Self {
        let mut why = String::new();
        let answer = until(self.name, async || {
            self.target.once().await.map_err(|error| why = error.to_string()).ok()
        });
        answer.await;
        self
    }
}

impl Rig {
    pub async fn start() -> Self {
        let (postgres, vault) = tokio::join!(Postgres::start(), Vault::start());
        vault.database(&postgres, "1h", "24h").await;
        let (role_id, secret_id) = vault.approle("bench", BROKER_POLICY, json!({})).await;
        let directory = tempfile::tempdir().unwrap();
        certificates::write(directory.path());
        fs::write(directory.path().join("role-id"), role_id).unwrap();
        fs::write(directory.path().join("secret-id"), secret_id).unwrap();
        Self { vault, directory, _postgres: postgres }
    }

    /// The same role under many names: each is a lease of its own for every contender.
    pub async fn add_roles(&self) {
        let role = self.vault.read("database/roles/app").await["data"].clone();
        for i in 0..LEASES {
            self.vault.write(&format!("database/roles/app{i}"), role.clone()).await;
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The sidecar's binary as a release has it.
    pub fn binary() -> PathBuf {
        std::env::var_os("SECRET_BROKER")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_secret-broker")), PathBuf::from)
    }

    fn started(
        &self,
        name: &'static str,
        ask: Ask,
        address: SocketAddr,
        command: &mut Command,
    ) -> Contender {
        let log = fs::File::create(self.path(&format!("{}.log", name.replace(' ', "-")))).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let target = Target::new(address, self.directory.path(), ask);
        Contender { name, target, process: Running::start(command) }
    }

    /// The sidecar, with sections for its secrets.
    pub fn broker(&self, secrets: &str) -> Contender {
        let address = loopback();
        let dir = self.directory.path().display();
        let config = format!(
            "[server]\nlisten = \"{address}\"\n[server.limits]\nconnections = 4096\nwatches = 4096\n\
             [tls]\nsource = \"files\"\ncert = \"{dir}/server.pem\"\nkey = \"{dir}/server.key\"\nca = \"{dir}/ca.pem\"\n\
             [audit]\nfile = \"{dir}/audit.log\"\n\
             [vault]\naddress = \"{}\"\n[vault.budget]\ncalls_per_minute = 60000\nburst = 5000\n\
             [vault.auth]\nmethod = \"approle\"\nrole_id_file = \"{dir}/role-id\"\nsecret_id_file = \"{dir}/secret-id\"\n\
             [[policy]]\nidentities = [\"{}\"]\nsecrets = [\"**\"]\nverbs = [\"get\", \"watch\", \"report\"]\n{secrets}",
            self.vault.address(),
            certificates::CLIENT,
        );
        let path = self.path("broker.toml");
        fs::write(&path, config).unwrap();
        let mut command = process::on_server_cores(Self::binary());
        command.args(["serve", "--config"]).arg(path);
        let request = GetSecretRequest { name: "DB".into() };
        self.started("secret-broker", Ask::grpc("GetSecret", &request), address, &mut command)
    }

    /// The echo of the sidecar's reply.
    pub fn echo(&self, flavor: &'static str) -> Contender {
        let name =
            if flavor == echo::CURRENT_THREAD { "tonic echo" } else { "tonic echo (threads)" };
        let address = loopback();
        fs::write(self.path(&format!("echo-{flavor}.address")), address.to_string()).unwrap();
        let mut command = process::on_server_cores(std::env::current_exe().unwrap());
        command.args([echo::ROLE, flavor]).arg(self.directory.path());
        let ask = Ask::grpc("GetSecret", &GetSecretRequest { name: "DB".into() });
        self.started(name, ask, address, &mut command)
    }

    /// Vault's own sidecar, as `agent` or `proxy`.
    pub fn vaults(&self, kind: &str) -> Contender {
        let name = if kind == "agent" { "Vault Agent" } else { "Vault Proxy" };
        let address = loopback();
        let path = self.path(&format!("{kind}.hcl"));
        fs::write(&path, vaults_config(&self.vault.address(), self.directory.path(), address))
            .unwrap();
        let mut command = process::on_server_cores(tool("vault"));
        command.arg(kind).arg("-config").arg(path);
        let ask = Ask::Http { path: "database/creds/app".into() };
        self.started(name, ask, address, &mut command)
    }
}

fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

fn vaults_config(vault: &str, directory: &Path, address: SocketAddr) -> String {
    let dir = directory.display();
    format!(
        "vault {{ address = \"{vault}\" }}\n\
         auto_auth {{ method \"approle\" {{ config = {{\n role_id_file_path = \"{dir}/role-id\"\n \
         secret_id_file_path = \"{dir}/secret-id\"\n remove_secret_id_file_after_reading = false\n }} }} }}\n\
         cache {{}}\napi_proxy {{ use_auto_auth_token = true }}\n\
         listener \"tcp\" {{\n address = \"{address}\"\n tls_cert_file = \"{dir}/server.pem\"\n \
         tls_key_file = \"{dir}/server.key\"\n tls_client_ca_file = \"{dir}/ca.pem\"\n \
         tls_require_and_verify_client_cert = true\n tls_min_version = \"tls13\"\n}}\n"
    )
}
