//! An encrypted file of secrets, as the operator writes it and a sidecar reads it.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use async_trait::async_trait;
use secret_broker::{
    broker::ports::Origin,
    config::{Credential, Deployment},
    domain::{
        fault::Reason,
        labels::Labels,
        secret::{Fields, SecretName, SecretValue},
    },
    rotation::ports::{Book, Journal, Leadership, SaveError, Versions},
    sealing::generate_key,
    store::sealed::SealedFile,
};
use tempfile::TempDir;

use super::contract::{Fixture, PLANTED, holds};

struct SealedFixture {
    dir: TempDir,
    file: Arc<SealedFile>,
}

fn value(text: &str) -> Fields {
    Fields::single(SecretValue::new(text))
}

impl SealedFixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sealed")).unwrap();
        for key in ["key", "other.key"] {
            fs::write(dir.path().join(key), generate_key().expose()).unwrap();
        }
        let file = Self::at(&dir, "secrets.age", "key");
        file.begin(&BTreeMap::from([("shop", value(PLANTED))])).unwrap();
        let torn = fs::read(dir.path().join("sealed/secrets.age")).unwrap();
        fs::write(dir.path().join("sealed/torn.age"), &torn[..torn.len() - 1]).unwrap();
        Self { dir, file }
    }

    fn at(dir: &TempDir, file: &str, key: &str) -> Arc<SealedFile> {
        let key = Credential::File(dir.path().join(key));
        SealedFile::new(dir.path().join("sealed").join(file), key)
    }

    fn reads(file: &Arc<SealedFile>, place: &str, environment: Option<&str>) -> Arc<dyn Origin> {
        let environment = environment.map(str::to_owned);
        Arc::new(file.origin(place.to_owned(), Deployment { environment, colour: None }))
    }
}

#[async_trait]
impl Fixture for SealedFixture {
    fn leased(&self) -> bool {
        false
    }

    fn origin(&self) -> Arc<dyn Origin> {
        Self::reads(&self.file, "shop", None)
    }

    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)> {
        let nowhere = Self::at(&self.dir, "nowhere.age", "key");
        vec![
            (Self::reads(&self.file, "other", None), "other".to_owned()),
            (Self::reads(&nowhere, "shop", None), "nowhere".to_owned()),
        ]
    }

    fn broken(&self) -> Vec<Arc<dyn Origin>> {
        [("torn.age", "key"), ("secrets.age", "other.key")]
            .map(|(file, key)| Self::reads(&Self::at(&self.dir, file, key), "shop", None))
            .into()
    }

    async fn change(&self) {
        self.file.versions("shop".to_owned()).append(&value("PLANTED-2"), 1).await.unwrap();
    }

    fn hints(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn an_encrypted_file_holds_the_contract() {
    holds(&SealedFixture::new()).await;
}

#[tokio::test]
async fn an_encrypted_file_holds_the_contract_of_versions() {
    let SealedFixture { file, dir: _dir } = SealedFixture::new();
    super::versions_contract::hold(&file.versions("promised".to_owned())).await;
}

#[tokio::test]
async fn an_encrypted_file_serves_each_environment_what_its_labels_say() {
    let SealedFixture { file, dir: _dir } = SealedFixture::new();
    let versions = file.versions("shop".to_owned());
    assert_eq!(versions.append(&value("new"), 1).await.unwrap(), 2);
    let conflict = versions.append(&value("late"), 1).await.unwrap_err();
    assert_eq!(conflict.reason, Reason::Conflict, "somebody else was faster");
    let pairs = [("current", "1"), ("pending", "2"), ("at.staging", "2"), ("epoch", "3")];
    versions.label(&Labels::from_pairs(pairs)).await.unwrap();
    let stale = Labels::from_pairs([("current", "1"), ("epoch", "2")]);
    assert_eq!(versions.label(&stale).await.unwrap_err().reason, Reason::Conflict);
    for (environment, version) in [(Some("staging"), "2"), (Some("production"), "1"), (None, "1")] {
        let issued = SealedFixture::reads(&file, "shop", environment).fetch().await.unwrap();
        assert_eq!(&*issued.version.0, version, "{environment:?}");
    }
}

#[tokio::test]
async fn an_encrypted_file_keeps_a_journal_that_two_cannot_write_at_once() {
    let SealedFixture { file, dir: _dir } = SealedFixture::new();
    let (journal, name) = (file.journal(), "SHOP".parse::<SecretName>().unwrap());
    let (book, stamp) = journal.load(&name).await.unwrap();
    assert_eq!(book, Book::default());
    let next = journal.save(&name, &book, stamp).await.unwrap();
    assert!(matches!(journal.save(&name, &book, stamp).await, Err(SaveError::Conflict)));
    assert_eq!(journal.load(&name).await.unwrap().1, next);
}

#[tokio::test]
async fn of_two_operators_on_one_encrypted_file_one_leads() {
    let SealedFixture { file, dir: _dir } = SealedFixture::new();
    let (first, second, tenure) = (file.lead(), file.lead(), Duration::from_secs(1));
    assert!(first.hold(tenure).await.unwrap() && first.hold(tenure).await.unwrap());
    assert!(!second.hold(tenure).await.unwrap());
    first.release().await.unwrap();
    assert!(second.hold(tenure).await.unwrap());
}
