//! The same for targets beyond the shop's own databases: AWS and Datadog as the test suite plays
//! them, Vault's database engine, commands of one's own, and people.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;

use super::{
    kills::killed_everywhere,
    rig::Rig,
    support::{datadog, moto::Moto},
};

/// A command that keeps the values that it accepts as files of a directory.
const COMMAND: &str = r#"#!/usr/bin/env python3
import json, os, secrets, sys

task = json.load(sys.stdin)
path = lambda fields: os.path.join(os.environ["STORE"], fields["value"])

def create():
    return {"fields": {"value": secrets.token_hex(16)}}

def set():
    open(path(task["pending"]), "w").close()
    return {"evidence": "set"}

def test():
    if not os.path.exists(path(task["pending"])):
        print(json.dumps({"message": "no such value"}))
        sys.exit(10)
    return {"evidence": "it is there"}

def finish():
    if os.path.exists(path(task["previous"])):
        os.remove(path(task["previous"]))
    return {"evidence": "removed"}

print(json.dumps({"create": create, "set": set, "test": test, "finish": finish}[task["step"]]()))
"#;

fn section(name: &str, path: &str, kind: &str, settings: &str) -> String {
    format!(
        "\n[secrets.{name}]\ncategory = \"x\"\ntier = \"never\"\n{path}\n[secrets.{name}.rotate.{kind}]\n{settings}\n"
    )
}

fn login(rig: &Rig, (id, secret): &(String, String)) -> String {
    let file = rig.credential("login", secret);
    format!("login = {{ username = \"{id}\", password_file = \"{file}\" }}")
}

async fn field(rig: &Rig, path: &str, field: &str) -> String {
    rig.current(path).await[field].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn of_an_access_key_of_aws() {
    let (rig, moto) = (Rig::start().await, Moto::start().await);
    let settings = format!(
        "user = \"shop\"\nendpoint = \"{}\"\npatience = \"5s\"\ninactive_for = \"0s\"\n{}",
        moto.address(),
        login(&rig, &moto.admin)
    );
    let section = section("KEY", "path = \"shop/aws\"", "aws_iam", &settings);
    killed_everywhere(&rig, &section, "KEY", &[], 20, async |rig, at| {
        let id = field(rig, "shop/aws", "AWS_ACCESS_KEY_ID").await;
        assert_eq!(moto.keys().await, [(id, true)], "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_a_key_behind_an_alias_of_kms() {
    let (rig, moto) = (Rig::start().await, Moto::start().await);
    let settings = format!(
        "alias = \"alias/shop\"\nregion = \"us-east-1\"\nendpoint = \"{}\"\npatience = \"5s\"\n{}",
        moto.address(),
        login(&rig, &moto.admin)
    );
    let section = section("KEY", "path = \"shop/kms\"", "aws_kms", &settings);
    killed_everywhere(&rig, &section, "KEY", &[], 20, async |rig, at| {
        let behind = moto.kms().describe_key().key_id("alias/shop").send().await.unwrap();
        let behind = behind.key_metadata().unwrap();
        assert!(behind.enabled(), "{at}");
        assert_eq!(behind.key_id(), field(rig, "shop/kms", "value").await, "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_a_key_of_datadog() {
    let (rig, (api, keys)) = (Rig::start().await, datadog::datadog(0).await);
    rig.put(
        "rotation/datadog",
        json!({ "application_key": datadog::APPLICATION, "api_key": datadog::OWN }),
    )
    .await;
    let settings = format!(
        "name = \"shop\"\nurl = \"{}\"\npatience = \"5s\"\nlogin = {{ vault = \"secret/data/rotation/datadog\" }}",
        api.address()
    );
    let section = section("KEY", "path = \"shop/datadog\"", "datadog", &settings);
    killed_everywhere(&rig, &section, "KEY", &[], 20, async |rig, at| {
        let id = field(rig, "shop/datadog", "key_id").await;
        let known: Vec<_> = keys.lock().unwrap().all.iter().map(|(id, ..)| id.clone()).collect();
        assert_eq!(known, [id], "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_a_command_of_ones_own() {
    let rig = Rig::start().await;
    let (command, store) = (rig.credential("command", COMMAND), rig.directory.path().join("store"));
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&store).unwrap();
    let settings =
        format!("command = [\"{command}\"]\nenvironment = {{ STORE = \"{}\" }}", store.display());
    let section = section("KEY", "path = \"shop/own\"", "exec", &settings);
    killed_everywhere(&rig, &section, "KEY", &[], 20, async |rig, at| {
        let accepted: Vec<_> = fs::read_dir(&store)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(accepted.contains(&field(rig, "shop/own", "value").await), "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_what_a_person_hands_over() {
    let rig = Rig::start().await;
    let values: Vec<_> = (0..200).map(|n| format!("value-{n}")).collect();
    let settings = "instructions = \"Make one.\"";
    let section = section("KEY", "path = \"shop/manual\"", "manual", settings);
    killed_everywhere(&rig, &section, "KEY", &values, 20, async |rig, at| {
        assert!(values.contains(&field(rig, "shop/manual", "value").await), "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_a_static_role_of_vault() {
    let rig = Rig::start().await;
    rig.vault.database(&rig.postgres, "1h", "2h").await;
    rig.postgres.execute("CREATE ROLE fixed LOGIN PASSWORD 'before'").await;
    let role = json!({ "db_name": "main", "username": "fixed", "rotation_period": "24h" });
    rig.vault.write("database/static-roles/fixed", role).await;
    let section = section("ROLE", "", "vault_database", "static_role = \"fixed\"");
    killed_everywhere(&rig, &section, "ROLE", &[], 8, async |rig, at| {
        let held = rig.vault.read("database/static-creds/fixed").await;
        let password = held["data"]["password"].as_str().unwrap();
        assert!(rig.postgres.login("fixed", password).await.is_ok(), "{at}");
    })
    .await;
}

#[tokio::test]
async fn of_the_login_of_vault_itself() {
    let rig = Rig::start().await;
    rig.vault.database(&rig.postgres, "1h", "2h").await;
    rig.postgres.execute("CREATE ROLE vault LOGIN SUPERUSER PASSWORD 'planted-root-4Hq8'").await;
    let own = json!({ "username": "vault", "password": "planted-root-4Hq8" });
    rig.vault.write("database/config/main", own).await;
    let settings = "root = \"main\"\nprove_role = \"app\"";
    let section = section("ROOT", "", "vault_database", settings);
    killed_everywhere(&rig, &section, "ROOT", &[], 8, async |rig, at| {
        let made = rig.vault.read("database/creds/app").await;
        let (user, password) = (&made["data"]["username"], &made["data"]["password"]);
        let (user, password) = (user.as_str().unwrap(), password.as_str().unwrap());
        assert!(rig.postgres.login(user, password).await.is_ok(), "{at}");
        assert!(rig.postgres.login("vault", "planted-root-4Hq8").await.is_err(), "{at}");
    })
    .await;
}
