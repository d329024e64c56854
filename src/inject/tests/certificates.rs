//! The webhook's certificate over its life, in paused time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    broker::ports::Clock,
    domain::{
        fault::{Fault, Reason},
        secret::SecretValue,
        time::Moment,
    },
    inject::{
        certificate::{Certificates, Keeper, Kept, Registrations, Terms},
        metrics::Metrics,
    },
    tls::own,
};

/// Follows the paused clock of the runtime.
struct Paused(Instant, Timestamp);

impl Clock for Paused {
    fn now(&self) -> Moment {
        Moment::at(self.0.elapsed())
    }

    fn wall(&self) -> Timestamp {
        self.1.checked_add(self.0.elapsed()).expect("a time")
    }
}

/// Certificate, key, authorities, and how often it was written.
type State = (String, Vec<u8>, String, u64);

/// What happened, in order.
#[derive(Default)]
struct World {
    kept: Mutex<Option<State>>,
    /// The leaf that was kept whenever the API server was told, and what it was told.
    told: Mutex<Vec<(String, String)>>,
    /// Somebody else is faster, once.
    rival: Mutex<Option<Kept>>,
}

impl World {
    fn put(&self, kept: &Kept) {
        let mut state = self.kept.lock().unwrap();
        let mark = state.as_ref().map_or(0, |(_, _, _, mark)| mark + 1);
        *state = Some((
            kept.certificate.clone(),
            kept.key.expose().to_vec(),
            kept.authorities.clone(),
            mark,
        ));
    }
}

#[async_trait]
impl Certificates for World {
    async fn load(&self) -> Result<Option<(Kept, String)>, Fault> {
        let state = self.kept.lock().unwrap();
        Ok(state.as_ref().map(|(certificate, key, authorities, mark)| {
            let (certificate, authorities) = (certificate.clone(), authorities.clone());
            (
                Kept { certificate, key: SecretValue::new(key.clone()), authorities },
                mark.to_string(),
            )
        }))
    }

    async fn save(&self, kept: &Kept, mark: Option<&str>) -> Result<(), Fault> {
        if let Some(rival) = self.rival.lock().unwrap().take() {
            self.put(&rival);
        }
        let present = self.kept.lock().unwrap().as_ref().map(|(_, _, _, mark)| mark.to_string());
        if present.as_deref() != mark {
            return Err(Fault::new(Reason::Conflict, "somebody else"));
        }
        self.put(kept);
        Ok(())
    }
}

#[async_trait]
impl Registrations for World {
    async fn trust(&self, authorities: &str) -> Result<(), Fault> {
        let leaf =
            self.kept.lock().unwrap().as_ref().map(|(leaf, ..)| leaf.clone()).unwrap_or_default();
        self.told.lock().unwrap().push((leaf, authorities.to_owned()));
        Ok(())
    }
}

const TTL: Duration = Duration::from_hours(24);

fn keeper(world: &Arc<World>) -> Keeper {
    let terms = Terms { names: vec!["127.0.0.1".to_owned()], ttl: TTL };
    let clock = Arc::new(Paused(Instant::now(), Timestamp::now()));
    Keeper::new(
        Arc::clone(world) as _,
        Arc::clone(world) as _,
        terms,
        clock,
        Arc::new(Metrics::new()),
    )
}

#[tokio::test(start_paused = true)]
async fn it_is_replaced_at_two_thirds_and_both_authorities_are_trusted_before_it_is_served() {
    let world = Arc::new(World::default());
    let mut keeper = keeper(&world);
    let live = keeper.first().await.unwrap();
    let first = world.told.lock().unwrap()[0].clone();
    let before = Arc::as_ptr(&live.config());
    let run = keeper.run(&live);
    tokio::select! {
        () = run => panic!("it ends"),
        () = tokio::time::sleep(TTL * 13 / 20) => {}
    }
    assert_eq!(Arc::as_ptr(&live.config()), before, "it is not replaced early");
    let world_now = world.told.lock().unwrap().last().cloned().unwrap();
    assert_eq!(world_now, first);
}

#[tokio::test(start_paused = true)]
async fn the_new_one_is_served_only_after_the_api_server_was_given_time() {
    let world = Arc::new(World::default());
    let mut keeper = keeper(&world);
    let live = keeper.first().await.unwrap();
    let first = world.told.lock().unwrap()[0].1.clone();
    let before = live.config();
    let watch = async {
        // From the moment that the API server is told of two authorities.
        while world.told.lock().unwrap().last().is_none_or(|(_, told)| *told == first) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(Arc::ptr_eq(&live.config(), &before), "it is not served at once");
        let told = world.told.lock().unwrap().last().unwrap().1.clone();
        assert_eq!(own::blocks(&told).count(), 2);
        assert_eq!(own::blocks(&told).nth(1), own::blocks(&first).next());
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert!(!Arc::ptr_eq(&live.config(), &before), "it is served then");
    };
    tokio::select! {
        () = keeper.run(&live) => panic!("it ends"),
        () = watch => {}
    }
}

#[tokio::test(start_paused = true)]
async fn replicas_that_begin_together_serve_one_certificate() {
    let world = Arc::new(World::default());
    let made =
        own::OwnCertificate::issue(&["127.0.0.1".to_owned()], TTL, Timestamp::now()).unwrap();
    let rival =
        Kept { certificate: made.certificate.clone(), key: made.key, authorities: made.authority };
    *world.rival.lock().unwrap() = Some(rival);
    keeper(&world).first().await.unwrap();
    let kept = world.kept.lock().unwrap().as_ref().unwrap().0.clone();
    assert_eq!(kept, made.certificate, "the winner's is kept");
}

#[tokio::test(start_paused = true)]
async fn one_for_other_names_is_replaced_and_what_is_broken_too() {
    let world = Arc::new(World::default());
    let broken =
        Kept { certificate: "x".into(), key: SecretValue::new("y"), authorities: String::new() };
    world.put(&broken);
    keeper(&world).first().await.unwrap();
    let first = world.kept.lock().unwrap().as_ref().unwrap().0.clone();
    assert_eq!(own::known(&first).unwrap().names, ["127.0.0.1"]);
    let terms = Terms { names: vec!["other".to_owned()], ttl: TTL };
    let clock = Arc::new(Paused(Instant::now(), Timestamp::now()));
    let ports = (Arc::clone(&world), Arc::clone(&world));
    let mut other = Keeper::new(ports.0, ports.1, terms, clock, Arc::new(Metrics::new()));
    other.first().await.unwrap();
    let second = world.kept.lock().unwrap().as_ref().unwrap().0.clone();
    assert_eq!(own::known(&second).unwrap().names, ["other"]);
}
