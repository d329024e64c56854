//! The promises of stores, held by each local one.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "support of tests")]

#[path = "support/store_contract.rs"]
mod contract;
#[cfg(feature = "operator")]
#[path = "support/sealed.rs"]
mod sealed;
#[cfg(feature = "operator")]
#[path = "support/versions_contract.rs"]
#[allow(unreachable_pub, reason = "other test programs share it")]
mod versions_contract;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use contract::{Fixture, PLANTED, holds};
use jiff::Timestamp;
use secret_broker::{
    app::clock::SystemClock,
    broker::ports::{Clock, Origin},
    config::Generator,
    domain::{
        fault::Reason,
        life::{Lease, Lifetime},
        time::Moment,
    },
    store::{
        VersionKey,
        directory::Directory,
        dotenv::Dotenv,
        memory::{LeaseTerms, Memory},
    },
};
use tempfile::TempDir;

fn fields(names: &[&str]) -> BTreeMap<String, String> {
    names.iter().map(|name| (name.to_lowercase(), (*name).to_owned())).collect()
}

fn key() -> Arc<VersionKey> {
    Arc::new(VersionKey::generate().unwrap())
}

struct DotenvFixture {
    dir: TempDir,
    key: Arc<VersionKey>,
}

impl DotenvFixture {
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap(), key: key() };
        fs::write(fixture.path(".env"), format!("# ours\nUSER=app\nPASSWORD='{PLANTED}'\n"))
            .unwrap();
        fs::write(fixture.path("broken"), format!("USER=app\n{PLANTED} PASSWORD\n")).unwrap();
        fs::write(fixture.path("twice"), format!("USER=a{PLANTED}\nUSER=b{PLANTED}")).unwrap();
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn keys(&self, file: &str, keys: &[&str]) -> Arc<dyn Origin> {
        Arc::new(Dotenv::new(self.path(file), fields(keys), Arc::clone(&self.key)))
    }
}

#[async_trait]
impl Fixture for DotenvFixture {
    fn leased(&self) -> bool {
        false
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.keys(".env", &["USER", "PASSWORD"])
    }

    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)> {
        vec![
            (self.keys("none.env", &["USER"]), "none.env".to_owned()),
            (self.keys(".env", &["OTHER"]), "OTHER".to_owned()),
        ]
    }

    fn broken(&self) -> Vec<Arc<dyn Origin>> {
        vec![self.keys("broken", &["USER"]), self.keys("twice", &["USER"])]
    }

    /// As editors do: a new file in the place of the old one.
    async fn change(&self) {
        let new = self.path(".env.swp");
        fs::write(&new, format!("USER=app\nPASSWORD='{PLANTED}-2'\n")).unwrap();
        fs::rename(new, self.path(".env")).unwrap();
    }

    fn hints(&self) -> bool {
        true
    }
}

struct DirectoryFixture {
    dir: TempDir,
    key: Arc<VersionKey>,
}

impl DirectoryFixture {
    /// A volume as the kubelet lays it out.
    fn new() -> Self {
        let fixture = Self { dir: tempfile::tempdir().unwrap(), key: key() };
        fixture.swap("..one", PLANTED);
        for file in ["id", "secret"] {
            symlink(format!("..data/{file}"), fixture.dir.path().join(file)).unwrap();
        }
        fixture
    }

    fn swap(&self, generation: &str, value: &str) {
        let data = self.dir.path().join(generation);
        fs::create_dir(&data).unwrap();
        fs::write(data.join("id"), "app\n").unwrap();
        fs::write(data.join("secret"), value).unwrap();
        fs::create_dir(data.join("folder")).unwrap();
        fs::write(data.join("large"), PLANTED.repeat(60_000)).unwrap();
        let link = self.dir.path().join("..data_tmp");
        symlink(generation, &link).unwrap();
        fs::rename(link, self.dir.path().join("..data")).unwrap();
    }

    fn files(&self, directory: &Path, files: &[&str]) -> Arc<dyn Origin> {
        Arc::new(Directory::new(directory.to_owned(), fields(files), Arc::clone(&self.key)))
    }
}

#[async_trait]
impl Fixture for DirectoryFixture {
    fn leased(&self) -> bool {
        false
    }

    fn origin(&self) -> Arc<dyn Origin> {
        self.files(self.dir.path(), &["id", "secret"])
    }

    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)> {
        let nowhere = self.dir.path().join("nowhere");
        vec![
            (self.files(self.dir.path(), &["id", "other"]), "other".to_owned()),
            (self.files(&nowhere, &["id"]), "nowhere".to_owned()),
        ]
    }

    fn broken(&self) -> Vec<Arc<dyn Origin>> {
        ["folder", "large", "../id"].map(|file| self.files(self.dir.path(), &[file])).into()
    }

    async fn change(&self) {
        self.swap("..two", &format!("{PLANTED}-2"));
        fs::remove_dir_all(self.dir.path().join("..one")).unwrap();
    }

    fn hints(&self) -> bool {
        true
    }
}

struct MemoryFixture {
    memory: Arc<Memory>,
    leased: bool,
}

impl MemoryFixture {
    fn new(terms: Option<LeaseTerms>) -> Self {
        Self { leased: terms.is_some(), memory: Arc::new(memory(terms, Arc::new(SystemClock))) }
    }
}

fn memory(terms: Option<LeaseTerms>, clock: Arc<dyn Clock>) -> Memory {
    let random = Generator::Random { prefix: PLANTED.to_owned(), length: 32 };
    let literal = Generator::Literal("app".to_owned());
    let fields = [("username".to_owned(), literal), ("password".to_owned(), random)];
    Memory::new(fields.into(), terms, clock)
}

#[async_trait]
impl Fixture for MemoryFixture {
    fn leased(&self) -> bool {
        self.leased
    }

    fn origin(&self) -> Arc<dyn Origin> {
        Arc::clone(&self.memory) as Arc<dyn Origin>
    }

    fn missing(&self) -> Vec<(Arc<dyn Origin>, String)> {
        Vec::new()
    }

    fn broken(&self) -> Vec<Arc<dyn Origin>> {
        Vec::new()
    }

    async fn change(&self) {
        self.memory.rotate(Duration::from_secs(10));
    }

    fn hints(&self) -> bool {
        true
    }
}

const HOUR: LeaseTerms = LeaseTerms { ttl: Duration::from_hours(1), max_ttl: None };

#[tokio::test]
async fn a_dotenv_file_holds_the_contract() {
    holds(&DotenvFixture::new()).await;
}

#[tokio::test]
async fn a_directory_holds_the_contract() {
    holds(&DirectoryFixture::new()).await;
}

#[tokio::test]
async fn memory_holds_the_contract() {
    holds(&MemoryFixture::new(None)).await;
}

#[tokio::test]
async fn memory_with_leases_holds_the_contract() {
    holds(&MemoryFixture::new(Some(HOUR))).await;
}

#[tokio::test]
async fn a_dotenv_fault_names_file_line_and_key() {
    let fixture = DotenvFixture::new();
    let detail = async |origin: Arc<dyn Origin>| origin.fetch().await.unwrap_err().detail;
    let broken = detail(fixture.keys("broken", &["USER"])).await;
    assert!(broken.contains("broken, line 2"), "{broken}");
    let twice = detail(fixture.keys("twice", &["USER"])).await;
    assert!(twice.contains("sets USER twice, in lines 1 and 2"), "{twice}");
    let missing = detail(fixture.keys(".env", &["OTHER"])).await;
    assert!(missing.contains(".env has no key OTHER"), "{missing}");
}

/// A clock that the test moves.
#[derive(Default)]
struct Hand(AtomicU32);

impl Clock for Hand {
    fn now(&self) -> Moment {
        Moment::at(Duration::from_secs(self.0.load(Ordering::Relaxed).into()))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

#[tokio::test]
async fn a_lease_of_memory_ends_by_the_clock_and_never_beyond_its_maximum() {
    let clock = Arc::new(Hand::default());
    let at = |secs| clock.0.store(secs, Ordering::Relaxed);
    let secs = Duration::from_secs;
    let terms = LeaseTerms { ttl: secs(60), max_ttl: Some(secs(100)) };
    let memory = memory(Some(terms), Arc::clone(&clock) as Arc<dyn Clock>);
    let issued = memory.fetch().await.unwrap();
    assert_eq!(issued.max_left, Some(secs(100)));
    let Lifetime::Leased { lease, ttl } = issued.lifetime else { panic!("no lease") };
    assert_eq!(ttl, secs(60));
    at(30);
    let renewed = memory.renew(&lease).await.unwrap();
    assert_eq!((renewed.ttl, renewed.renewable), (secs(60), true));
    at(80);
    let renewed = memory.renew(&lease).await.unwrap();
    assert_eq!((renewed.ttl, renewed.renewable), (secs(20), false));
    assert_eq!(renewed.max_left, Some(secs(20)));
    at(100);
    assert_eq!(memory.renew(&lease).await.unwrap_err().reason, Reason::LeaseLost);
}

#[tokio::test]
async fn rotating_memory_ends_its_leases_after_the_grace() {
    let clock = Arc::new(Hand::default());
    let secs = Duration::from_secs;
    let terms = LeaseTerms { ttl: secs(60), max_ttl: None };
    let memory = memory(Some(terms), Arc::clone(&clock) as Arc<dyn Clock>);
    let lease = |lifetime| match lifetime {
        Lifetime::Leased { lease, .. } => lease,
        other => panic!("{other:?}"),
    };
    let old: Lease = lease(memory.fetch().await.unwrap().lifetime);
    memory.rotate(secs(5));
    let renewed = memory.renew(&old).await.unwrap();
    assert_eq!((renewed.ttl, renewed.renewable), (secs(5), false));
    let new: Lease = lease(memory.fetch().await.unwrap().lifetime);
    assert_eq!(memory.renew(&new).await.unwrap().ttl, secs(60));
    clock.0.store(5, Ordering::Relaxed);
    assert_eq!(memory.renew(&old).await.unwrap_err().reason, Reason::LeaseLost);
    assert!(memory.renew(&new).await.is_ok());
}
