//! The roles that the test program plays in processes of its own.

use std::{
    collections::BTreeMap,
    io::{Read, stdin},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use secret_broker::{
    app::clock::SystemClock,
    broker::{
        ports::{Clock, Origin},
        state::{Loaded, SavedSecret, SavedState, SavedVersion, StateError, StateStore},
    },
    config::{self, Credential},
    domain::secret::{Fields, Generation, SecretValue, Version},
    lockdown::lock_down,
    state::StateFile,
    store::{VersionKey, directory::Directory, dotenv::Dotenv},
};
use tokio::runtime::Builder;

/// Written into files by the parent. As a constant it lies in read-only memory, which is not searched.
pub(crate) const PLANTED: &str = "PLANTED-in-memory-4711-PLANTED";

/// Secrets of one state: enough that a save takes many writes.
const SECRETS: usize = 300;

pub(crate) fn run(arguments: &[String]) {
    let [role, place] = arguments else { panic!("child ROLE PLACE") };
    let place = Path::new(place);
    match role.as_str() {
        "save-for-ever" => save_for_ever(place),
        "save-once" => println!("{}", save(place, 2).unwrap_err()),
        "locked" => {
            let done = lock_down();
            let measures = done.measures().map(|(name, outcome)| format!("{name}={outcome:?}"));
            let dumpable = rustix::process::dumpable_behavior().unwrap();
            used(place);
            println!("{} dumpable={dumpable:?}", measures.join(" "));
            wait();
        }
        "open" => {
            used(place);
            println!("open");
            wait();
        }
        "hold" => block_on(hold(place)),
        other => panic!("no role {other}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Waits for a line without a buffer that would be searched too.
fn wait() {
    let _ = stdin().lock().read(&mut [0; 1]);
}

/// Does some work, so that memory and threads are in use.
fn used(place: &Path) {
    save(place, 1).unwrap();
    load(place);
}

fn open(place: &Path) -> StateFile {
    let key = Credential::File(place.join("key"));
    let path = place.join("state/state.age");
    let settings = config::StateFile { path, key, generate_key: false };
    StateFile::open(&settings, Arc::new(SystemClock)).unwrap()
}

fn state(generation: u64, values: impl Fn() -> Arc<Fields>) -> SavedState {
    let secret = |n| {
        let current = SavedVersion {
            fields: values(),
            version: Version("1".into()),
            generation: Generation(generation),
            issued_at: Timestamp::UNIX_EPOCH,
            ends_at: None,
            lease: None,
        };
        let name = format!("secret/{n}").parse().unwrap();
        (name, SavedSecret { current, overlaps: Vec::new() })
    };
    SavedState {
        saved_at: SystemClock.wall(),
        secrets: (0..SECRETS).map(secret).collect(),
        session: None,
        version_key: None,
    }
}

pub(crate) fn save(place: &Path, generation: u64) -> Result<(), StateError> {
    let values = || Arc::new(Fields::single(SecretValue::new(vec![b'x'; 1000])));
    block_on(open(place).save(state(generation, values)))
}

/// The generation of the state, all of whose secrets have to be of one.
pub(crate) fn load(place: &Path) -> u64 {
    let Loaded::State(state) = block_on(open(place).load()).unwrap() else {
        panic!("the state is not whole")
    };
    assert_eq!(state.secrets.len(), SECRETS);
    let mut generations = state.secrets.values().map(|secret| secret.current.generation.0);
    let first = generations.next().unwrap();
    assert!(generations.all(|generation| generation == first), "a mix of two states");
    first
}

fn save_for_ever(place: &Path) {
    for generation in load(place) + 1.. {
        println!("{generation}");
        save(place, generation).unwrap();
    }
}

/// Takes a value through every local way that values go, and then drops it.
async fn hold(place: &Path) {
    let key = Arc::new(VersionKey::generate().unwrap());
    let fields = BTreeMap::from([("value".to_owned(), "PASSWORD".to_owned())]);
    let dotenv = Dotenv::new(place.join(".env"), fields.clone(), Arc::clone(&key));
    let directory = Directory::new(place.to_owned(), fields, key);
    let file = open(place);
    let held = (dotenv.fetch().await.unwrap(), directory.fetch().await.unwrap());
    file.save(state(1, || Arc::clone(&held.0.fields))).await.unwrap();
    let Loaded::State(loaded) = file.load().await.unwrap() else { panic!("no state") };
    println!("held");
    wait();
    drop((held, loaded));
    println!("dropped");
    wait();
}
