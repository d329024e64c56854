//! What survives, what is refused, and what never appears in the file.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    broker::state::{SavedSecret, SavedSession, SavedVersion},
    domain::{
        life::Lease,
        secret::{Fields, Generation, SecretValue, Version},
        time::Moment,
    },
    sealing::generate_key,
};

const PLANTED: &str = "PLANTED-hunter2-PLANTED";

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Moment {
        Moment::at(Duration::from_hours(1))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_second(1_000_000).unwrap()
    }
}

struct Place {
    dir: TempDir,
    key: SecretValue,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), key: generate_key() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("state.age")
    }

    fn open(&self) -> StateFile {
        self.open_with(&self.key)
    }

    fn open_with(&self, key: &SecretValue) -> StateFile {
        let key = Credential::Value(SecretValue::new(key.expose()));
        let settings = config::StateFile { path: self.path(), key, generate_key: false };
        StateFile::open(&settings, Arc::new(Fixed)).unwrap()
    }

    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn version(value: &str, generation: u64) -> SavedVersion {
    SavedVersion {
        fields: Arc::new(Fields::single(SecretValue::new(value))),
        version: Version("v\"1".into()),
        generation: Generation(generation),
        issued_at: Fixed.wall(),
        ends_at: Timestamp::from_second(1_000_600).ok(),
        lease: Some(Lease { id: "database/creds/app/1".into(), renewable: true }),
    }
}

fn state(value: &str) -> SavedState {
    let overlaps = vec![(version("old", 6), Fixed.wall())];
    let secret = SavedSecret { current: version(value, 7), overlaps };
    SavedState {
        saved_at: Fixed.wall(),
        secrets: [("db/MAIN".parse().unwrap(), secret)].into(),
        session: Some(SavedSession { content: Arc::new(SecretValue::new(PLANTED)), ends_at: None }),
        version_key: Some(Arc::new(SecretValue::new(vec![0, 255]))),
    }
}

async fn loaded(place: &Place) -> SavedState {
    match place.open().load().await.unwrap() {
        Loaded::State(state) => state,
        other => panic!("{other:?}"),
    }
}

async fn rejected(place: &Place) -> Rejected {
    match place.open().load().await.unwrap() {
        Loaded::Rejected(rejected) => rejected,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_was_saved_comes_back() {
    let place = Place::new();
    assert!(matches!(place.open().load().await.unwrap(), Loaded::Nothing));
    place.open().save(state("one")).await.unwrap();
    place.open().save(state("two")).await.unwrap();
    let (loaded, saved) = (loaded(&place).await, state("two"));
    assert_eq!(loaded.saved_at, saved.saved_at);
    let (read, written) = (&loaded.secrets["db/MAIN"], &saved.secrets["db/MAIN"]);
    assert_eq!(read.current, written.current);
    assert_eq!(read.overlaps, written.overlaps);
    assert_eq!(loaded.session.unwrap().content.expose(), PLANTED.as_bytes());
    assert_eq!(loaded.version_key, saved.version_key);
}

#[tokio::test]
async fn what_was_forgotten_is_gone_and_a_save_that_was_begun_before_stays_without_effect() {
    let place = Place::new();
    let file = place.open();
    file.forget().await.unwrap();
    file.save(state("one")).await.unwrap();
    file.forget().await.unwrap();
    file.file.save(1, &state("late")).unwrap();
    assert!(matches!(place.open().load().await.unwrap(), Loaded::Nothing));
    file.save(state("next")).await.unwrap();
    loaded(&place).await;
}

#[tokio::test]
async fn a_key_is_made_once_where_that_is_asked_for() {
    let place = Place::new();
    let keys = tempfile::tempdir().unwrap();
    let path = keys.path().join("key");
    let open = |generate_key| {
        let key = Credential::File(path.clone());
        let settings = config::StateFile { path: place.path(), key, generate_key };
        StateFile::open(&settings, Arc::new(Fixed))
    };
    assert!(open(false).is_err());
    open(true).unwrap().save(state("one")).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for generate_key in [true, false] {
        let loaded = open(generate_key).unwrap().load().await.unwrap();
        assert!(matches!(loaded, Loaded::State(_)), "{loaded:?}");
    }
    // A file that holds no key is nobody's to replace.
    fs::write(&path, "not a key").unwrap();
    assert!(open(true).err().unwrap().what.contains("holds no key"));
    assert_eq!(fs::read(&path).unwrap(), b"not a key");
}

#[tokio::test]
async fn the_file_is_its_owners_and_shows_nothing() {
    let place = Place::new();
    place.open().save(state(PLANTED)).await.unwrap();
    assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let content = fs::read(place.path()).unwrap();
    let hex = PLANTED.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    for text in [PLANTED, &hex, "db/MAIN", "database/creds"] {
        assert!(!content.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
    }
    assert!(!format!("{:?}", state(PLANTED)).contains(PLANTED));
}

#[tokio::test]
async fn a_file_under_another_key_is_set_aside_and_the_next_save_works() {
    let place = Place::new();
    place.open_with(&generate_key()).save(state("x")).await.unwrap();
    let rejected = rejected(&place).await;
    assert_eq!(rejected.reason, Distrust::Sealed);
    assert!(rejected.set_aside.unwrap().exists());
    assert!(matches!(place.open().load().await.unwrap(), Loaded::Nothing));
    place.open().save(state("y")).await.unwrap();
    loaded(&place).await;
}

#[tokio::test]
async fn only_the_last_few_files_are_kept_aside() {
    let place = Place::new();
    let mut aside = Vec::new();
    for content in 0..6 {
        fs::write(place.path(), content.to_string()).unwrap();
        aside.push(rejected(&place).await.set_aside.unwrap());
    }
    let kept = aside.iter().filter(|path| path.exists()).collect::<Vec<_>>();
    assert_eq!(kept, aside.iter().skip(3).collect::<Vec<_>>());
    assert_eq!(place.names().len(), 3);
}

#[tokio::test]
async fn every_altered_byte_is_found() {
    let place = Place::new();
    place.open().save(state(PLANTED)).await.unwrap();
    let whole = fs::read(place.path()).unwrap();
    let key = Key::read(&Credential::Value(SecretValue::new(place.key.expose()))).unwrap();
    let opens = |sealed: &[u8]| key.open(sealed).ok_or(Distrust::Sealed);
    assert!(opens(&whole).is_ok());
    for at in 0..whole.len() {
        for flip in [1_u8, 0x20, 0x80] {
            let mut altered = whole.clone();
            altered[at] ^= flip;
            assert_eq!(opens(&altered).err(), Some(Distrust::Sealed), "byte {at} ^ {flip}");
        }
        assert_eq!(opens(&whole[..at]).err(), Some(Distrust::Sealed), "cut at {at}");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert_eq!(opens(&longer).err(), Some(Distrust::Sealed));
}

#[tokio::test]
async fn a_form_from_elsewhere_is_told_from_nonsense() {
    let place = Place::new();
    let key = Key::read(&Credential::Value(SecretValue::new(place.key.expose()))).unwrap();
    for (plain, reason) in [
        (r#"{"form":2,"other":{}}"#, Distrust::UnknownForm),
        (r#"{"form":1,"other":{}}"#, Distrust::Malformed),
        ("[]", Distrust::Malformed),
        ("", Distrust::Malformed),
    ] {
        let sealed = key.seal(|to| to.write_all(plain.as_bytes())).unwrap();
        fs::write(place.path(), sealed).unwrap();
        assert_eq!(rejected(&place).await.reason, reason, "{plain}");
    }
}

#[tokio::test]
async fn a_file_larger_than_any_state_is_not_read() {
    let place = Place::new();
    fs::File::create(place.path()).unwrap().set_len(MAX_BYTES + 1).unwrap();
    assert_eq!(rejected(&place).await.reason, Distrust::TooLarge);
}

#[tokio::test]
async fn what_can_not_be_read_is_an_error_and_stays() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    let error = place.open().load().await.unwrap_err();
    assert!(error.what.contains("state.age"), "{error}");
    assert!(place.open().save(state("x")).await.is_err());
    assert_eq!(place.names(), ["state.age".to_owned()].into());
}

#[tokio::test]
async fn a_draft_of_a_killed_run_is_no_hindrance() {
    let place = Place::new();
    fs::write(place.dir.path().join("state.age.draft"), "half").unwrap();
    place.open().save(state("x")).await.unwrap();
    loaded(&place).await;
    assert_eq!(place.names(), ["state.age".to_owned()].into());
}

#[tokio::test]
async fn an_older_save_never_overtakes_a_newer_one() {
    let place = Place::new();
    let file = place.open();
    file.file.save(2, &state("new")).unwrap();
    file.file.save(1, &state("old")).unwrap();
    assert_eq!(loaded(&place).await.secrets["db/MAIN"].current, version("new", 7));
}

#[tokio::test]
async fn a_dropped_save_leaves_a_whole_file() {
    let place = Place::new();
    let file = place.open();
    for _ in 0..20 {
        drop(futures_util::poll!(file.save(state("dropped"))));
    }
    file.save(state("last")).await.unwrap();
    assert_eq!(loaded(&place).await.secrets["db/MAIN"].current, version("last", 7));
}

proptest! {
    #[test]
    fn any_plain_text_is_a_state_or_distrusted(plain in "\\PC{0,80}") {
        let _ = record::decode(plain.as_bytes());
    }

    #[test]
    fn any_value_comes_back(value in proptest::collection::vec(any::<u8>(), 0..100)) {
        let mut saved = state("");
        let fields = Fields::single(SecretValue::new(value.clone()));
        saved.secrets.values_mut().for_each(|s| s.current.fields = Arc::new(
            fields.iter().map(|(k, v)| (k.to_owned(), SecretValue::new(v.expose()))).collect(),
        ));
        let mut plain = Vec::new();
        record::encode(&saved, &mut plain).unwrap();
        let read = record::decode(&plain).unwrap();
        let read = read.secrets["db/MAIN"].current.fields.field("value").unwrap();
        prop_assert_eq!(read.expose(), value);
    }
}
