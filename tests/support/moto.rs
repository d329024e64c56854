//! AWS, as the server moto plays it, with an administrator and a user.

use std::process::{Command, Stdio};

use aws_sdk_iam::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_types::SdkConfig;

use super::{Running, free_port, tool, until};

/// What everybody may do that is let in.
const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

pub struct Moto {
    process: Running,
    pub port: u16,
    /// The id and secret of the administrator's key.
    pub admin: (String, String),
}

impl Moto {
    /// A server that checks signatures and rights, with the administrator `admin` and the user
    /// `shop`, who has no key.
    pub async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let port = free_port();
        let mut command = Command::new(tool("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        // What it keeps between calls would be a file of the machine's otherwise.
        command.env("MOTO_ACCOUNT_ID", "123456789012");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let process = Running::start(&mut command);
        let admin = ("AKIASETUP".to_owned(), "setup".to_owned());
        let mut moto = Self { process, port, admin };
        let http = reqwest::Client::new();
        until("moto answers", async || {
            let url = format!("{}/moto-api/", moto.address());
            http.get(url).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        let iam = moto.iam();
        for user in ["admin", "shop"] {
            iam.create_user().user_name(user).send().await.expect("a user");
            let policy = iam.put_user_policy().user_name(user).policy_name("all");
            policy.policy_document(ALLOW_ALL).send().await.expect("a policy");
        }
        let key = iam.create_access_key().user_name("admin").send().await.expect("a key");
        let key = key.access_key().expect("a key");
        moto.admin = (key.access_key_id().to_owned(), key.secret_access_key().to_owned());
        let auth = format!("{}/moto-api/reset-auth", moto.address());
        http.post(auth).body("0").send().await.expect("rights are checked from now on");
        moto
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    fn config(&self) -> SdkConfig {
        let (id, secret) = &self.admin;
        let http = aws_smithy_http_client::Builder::new().build_http();
        let credentials = Credentials::new(id, secret, None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(http)
            .region(Region::new("us-east-1"))
            .endpoint_url(self.address())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    pub fn iam(&self) -> aws_sdk_iam::Client {
        aws_sdk_iam::Client::new(&self.config())
    }

    pub fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.config())
    }

    /// The keys of the user `shop`: their ids and whether they are active.
    pub async fn keys(&self) -> Vec<(String, bool)> {
        let keys = self.iam().list_access_keys().user_name("shop").send().await.expect("keys");
        let active = |key: &aws_sdk_iam::types::AccessKeyMetadata| {
            let id = key.access_key_id().expect("an id").to_owned();
            (id, key.status().is_some_and(|status| status.as_str() == "Active"))
        };
        keys.access_key_metadata().iter().map(active).collect()
    }
}
