//! A rotation whose process is killed, before and after each of its writes to Vault, goes on at the
//! next command and ends with exactly one working credential.

use std::slice::Iter;

use serde_json::Value;

use super::{
    rig::Rig,
    support::proxy::{Hold, Proxy},
};

/// Kills a rotation at each write in turn. `check` looks at what is left.
async fn kill_everywhere(secret: &str, check: impl AsyncFn(&Rig, &str)) {
    killed_everywhere(&Rig::start().await, "", secret, &[], 20, check).await;
}

/// Kills the rotation of a secret that these sections configure, at least `least` times. A person
/// who is asked for a value hands these over, one after the other.
pub(crate) async fn killed_everywhere(
    rig: &Rig,
    sections: &str,
    secret: &str,
    values: &[String],
    least: usize,
    check: impl AsyncFn(&Rig, &str),
) {
    let proxy = Proxy::start(rig.vault.port()).await;
    rig.configure(&proxy.address(), sections);
    let mut values = values.iter();
    let mut cuts = 0;
    for n in 0.. {
        // What is done before it and not known, and what is known and not done yet, in turn.
        let place = if n % 2 == 0 { Hold::Before } else { Hold::After };
        let at = format!("{secret}, {place:?} write {n}");
        proxy.hold(n, place);
        let mut rotation = Box::pin(whole(rig, secret, &mut values, &at));
        let cut = tokio::select! {
            () = proxy.held() => true,
            () = &mut rotation => false,
        };
        proxy.let_go();
        // Its command is killed with it.
        drop(rotation);
        if !cut {
            break;
        }
        cuts += 1;
        // As a person would: the same command again, which joins what is under way.
        whole(rig, secret, &mut values, &at).await;
        check(rig, &at).await;
    }
    assert!(cuts >= least, "{cuts} cuts");
}

/// Types what carries a rotation to its end.
async fn whole(rig: &Rig, secret: &str, values: &mut Iter<'_, String>, at: &str) {
    let mut ended = rig.run(&["rotate", secret, "--wait", "--json"]).await;
    loop {
        assert_eq!(ended.code, 0, "{at}: {ended:?}");
        let last: Value = serde_json::from_str(ended.out.lines().last().unwrap()).unwrap();
        ended = if last["standing"] == "succeeded" {
            return;
        } else if last["standing"] == "running" {
            // Both versions work for a while.
            rig.run(&["rotate", secret, "--wait", "--json"]).await
        } else {
            let value = values.next().unwrap_or_else(|| panic!("{at}: {last}"));
            rig.run_with(&["supply", secret, "--json"], value).await
        };
    }
}

async fn text(rig: &Rig, path: &str, field: &str) -> String {
    rig.current(path).await[field].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn of_postgres_users_that_take_turns() {
    kill_everywhere("POSTGRES_PASSWORD", async |rig, at| {
        let user = text(rig, "shop/postgres", "username").await;
        let password = text(rig, "shop/postgres", "password").await;
        let role = rig.postgres.login(&user, &password).await;
        assert_eq!(role.ok().as_deref(), Some("shop_owner"), "{at}");
        let other = if user == "shop_a" { "shop_b" } else { "shop_a" };
        let can_log_in = rig.postgres.can_log_in(other).await;
        assert!(!can_log_in, "{at}: {other} can still log in");
    })
    .await;
}

#[tokio::test]
async fn of_one_postgres_user() {
    kill_everywhere("LEGACY_PASSWORD", async |rig, at| {
        let password = text(rig, "shop/legacy", "password").await;
        assert!(rig.postgres.login("legacy", &password).await.is_ok(), "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_a_redis_user() {
    kill_everywhere("REDIS_PASSWORD", async |rig, at| {
        let password = text(rig, "shop/redis", "password").await;
        assert!(rig.redis.login("cache", &password).await.is_ok(), "{at}");
        assert_eq!(rig.redis.passwords("cache").await, 1, "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_a_signing_secret() {
    kill_everywhere("JWT_SECRET", async |rig, at| {
        assert!(text(rig, "shop/jwt", "value").await.len() >= 32, "{at}");
        assert_ne!(
            text(rig, "shop/jwt", "value").await,
            text(rig, "shop/jwt", "next").await,
            "{at}"
        );
    })
    .await;
}

#[tokio::test]
async fn of_an_api_key() {
    kill_everywhere("API_KEY_MASTER", async |rig, at| {
        assert!(text(rig, "shop/api-key", "value").await.starts_with("sbk_"), "{at}");
    })
    .await;
}
