//! What people type, and what comes of it.

use serde_json::Value;

use super::rig::Rig;

async fn rig() -> Rig {
    let rig = Rig::start().await;
    rig.configure(&rig.vault.address(), "");
    rig
}

#[tokio::test]
async fn a_rotation_shows_its_steps_and_leaves_a_record() {
    let rig = rig().await;
    let plan = rig.succeed(&["rotate", "POSTGRES_PASSWORD", "--dry-run"]).await;
    assert!(plan.contains("promote to production (green)"), "{plan}");
    let before = rig.current("shop/postgres").await;
    let shown = rig.succeed(&["rotate", "POSTGRES_PASSWORD", "--wait", "--validate"]).await;
    for part in ["✓ apply in the target", "✓ validate for staging", "✓ overlap", "succeeded"]
    {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    let after = rig.current("shop/postgres").await;
    assert_eq!(
        (before["username"].as_str(), after["username"].as_str()),
        (Some("shop_a"), Some("shop_b"))
    );
    let login = |value: Value| {
        let field = |name: &str| value[name].as_str().unwrap().to_owned();
        (field("username"), field("password"))
    };
    let (user, password) = login(after);
    assert!(rig.postgres.login(&user, &password).await.is_ok());
    assert!(rig.postgres.login("shop_a", "first-a").await.is_err(), "the old one is revoked");
    let records = rig.directory.path().join("records/POSTGRES_PASSWORD");
    let names: Vec<_> = std::fs::read_dir(records).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for path in names {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("shop_b") || text.contains("version"), "{text}");
        assert!(!text.contains(&password) && !shown.contains(&password), "no value is recorded");
    }
    let status = rig.succeed(&["status", "POSTGRES_PASSWORD", "--json"]).await;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((&status["current"], &status["open"]), (&Value::from(2), &Value::Null));
}

#[tokio::test]
async fn it_stops_after_staging_and_goes_on_when_asked_for_production() {
    let rig = rig().await;
    let held = rig.succeed(&["rotate", "API_KEY_MASTER", "--environment", "staging"]).await;
    assert!(held.contains("held after staging"), "{held}");
    let labels = rig.labels("shop/api-key").await;
    assert_eq!((labels["at.staging"].as_str(), labels["current"].as_str()), (Some("2"), Some("1")));
    rig.succeed(&["rotate", "API_KEY_MASTER", "--environment", "production", "--wait"]).await;
    let labels = rig.labels("shop/api-key").await;
    assert_eq!(labels["current"].as_str(), Some("2"));
    assert!(labels.get("at.staging").is_none() && labels.get("previous").is_none(), "{labels}");
}

#[tokio::test]
async fn a_rollback_makes_the_version_before_work_again() {
    let rig = rig().await;
    rig.succeed(&["rotate", "POSTGRES_PASSWORD", "--wait"]).await;
    assert!(rig.postgres.login("shop_a", "first-a").await.is_err());
    rig.succeed(&["rollback", "POSTGRES_PASSWORD", "--reason", "orders fail"]).await;
    assert_eq!(rig.current("shop/postgres").await["username"], "shop_a");
    assert!(rig.postgres.login("shop_a", "first-a").await.is_ok());
    assert!(!rig.postgres.can_log_in("shop_b").await);
}

#[tokio::test]
async fn a_compromise_leaves_nothing_of_the_old_value_and_an_incident_report() {
    let rig = rig().await;
    let refused = rig.run(&["compromise", "POSTGRES_PASSWORD", "--reason", "in a log"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.err.contains("what breaks"), "{refused:?}");
    rig.succeed(&["compromise", "POSTGRES_PASSWORD", "--reason", "in a log", "--yes"]).await;
    assert!(rig.postgres.login("shop_a", "first-a").await.is_err());
    let current = rig.current("shop/postgres").await;
    assert_eq!(current["username"], "shop_b");
    let records = rig.directory.path().join("records/POSTGRES_PASSWORD");
    let reports = std::fs::read_dir(records).unwrap().map(|e| e.unwrap().path());
    let report = reports.filter(|p| p.extension().is_some_and(|it| it == "md")).collect::<Vec<_>>();
    let text = std::fs::read_to_string(&report[0]).unwrap();
    assert!(report[0].to_str().unwrap().contains("incident-"), "{report:?}");
    assert!(text.contains("in a log"), "{text}");
    let status = rig.succeed(&["status", "POSTGRES_PASSWORD", "--json"]).await;
    assert!(status.contains("monitored_until\":\"2"), "{status}");
    let back = rig.run(&["rollback", "POSTGRES_PASSWORD"]).await;
    assert_eq!(back.code, 3, "nobody goes back to what others know: {back:?}");
}

#[tokio::test]
async fn an_outage_is_walked_through_to_a_post_mortem() {
    let rig = rig().await;
    rig.succeed(&["rotate", "REDIS_PASSWORD", "--wait"]).await;
    let walked = rig.succeed(&["outage", "REDIS_PASSWORD", "--reason", "carts are empty"]).await;
    assert!(walked.contains("post-mortem to be completed"), "{walked}");
    assert!(rig.redis.login("cache", "first-cache").await.is_ok());
}

#[tokio::test]
async fn validation_uses_every_credential_and_fails_for_one_that_does_not_work() {
    let rig = rig().await;
    rig.succeed(&["rotate", "JWT_SECRET", "--wait"]).await;
    let all = rig.succeed(&["validate", "--environment", "production"]).await;
    assert!(!all.contains("FAIL"), "{all}");
    rig.postgres.execute("ALTER ROLE shop_a PASSWORD 'changed'").await;
    let failed = rig.run(&["validate", "POSTGRES_PASSWORD"]).await;
    assert_eq!(failed.code, 7, "{failed:?}");
    assert!(failed.out.contains("FAIL"), "{failed:?}");
}

#[tokio::test]
async fn the_scripts_that_people_know_do_what_the_program_does() {
    let rig = rig().await;
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
    let rotate = format!("{scripts}/rotate-jwt-secret.sh");
    let shown =
        rig.succeed(&[&rotate, "--environment", "production", "--validate", "--wait"]).await;
    assert!(shown.contains("succeeded") && shown.contains("pass"), "{shown}");
    let validate = format!("{scripts}/validate-secrets.sh");
    let all = rig.succeed(&[&validate, "--environment", "production"]).await;
    assert!(all.contains("JWT_SECRET") && !all.contains("FAIL"), "{all}");
}

#[tokio::test]
async fn access_in_an_emergency_reads_one_secret_and_can_be_ended() {
    let rig = rig().await;
    let opened = rig
        .succeed(&[
            "break-glass",
            "API_KEY_MASTER",
            "--reason",
            "locked out",
            "--for",
            "5m",
            "--json",
        ])
        .await;
    let opened: Value = serde_json::from_str(&opened).unwrap();
    let token = opened["token"].as_str().unwrap();
    let read = async |path: &str| {
        let url = format!("{}/v1/{path}", rig.vault.address());
        let answer = reqwest::Client::new().get(url).header("X-Vault-Token", token).send().await;
        answer.unwrap().status().as_u16()
    };
    assert_eq!(read("secret/data/shop/api-key").await, 200);
    assert_eq!(read("secret/data/shop/postgres").await, 403);
    let id = opened["id"].as_str().unwrap();
    rig.succeed(&["break-glass", "API_KEY_MASTER", "--end", id]).await;
    assert_eq!(read("secret/data/shop/api-key").await, 403);
    let long = rig.run(&["break-glass", "API_KEY_MASTER", "--for", "5h"]).await;
    assert_eq!(long.code, 2, "{long:?}");
}

#[tokio::test]
async fn mistakes_are_told_with_what_would_be_accepted() {
    let rig = rig().await;
    let unknown = rig.run(&["rotate", "NOTHING"]).await;
    assert_eq!(unknown.code, 3);
    assert!(unknown.err.contains("the catalogue has API_KEY_MASTER"), "{unknown:?}");
    let plan = rig.succeed(&["plan"]).await;
    assert!(plan.contains("LEGACY_PASSWORD") && plan.contains("only when somebody asks"), "{plan}");
    rig.configure(&rig.vault.address(), "\n[secrets.X]\ncategory = \"x\"\n");
    let wrong = rig.run(&["check"]).await;
    assert_eq!(wrong.code, 2);
    assert!(
        wrong.err.contains("secrets.X.tier") && wrong.err.contains("secrets.X.rotate"),
        "{wrong:?}"
    );
}
