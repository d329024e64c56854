//! Secrets that lie in Secrets of Kubernetes, and copies of those that lie in Vault.

use secret_broker::{
    domain::{fault::Reason, labels::Labels},
    kube::secrets::SecretVersions,
    rotation::ports::Versions,
};
use serde_json::{Value, json};

use super::{
    cluster::{InCluster, encoded, text},
    rig::Rig,
    support::{
        proxy::{Hold, Proxy},
        until,
        versions_contract::{self, value},
    },
};

const IN_CLUSTER: &str = "\n[secrets.IN_CLUSTER]\ncategory = \"application\"\ntier = \"never\"\n\
    rotate.api_key = { prefix = \"sbk_\" }\nkubernetes = { namespace = \"@NAMESPACE@\", name = \"api-key\" }\n";
const COPIED: &str = "\n[secrets.COPIED]\ncategory = \"application\"\ntier = \"never\"\npath = \"shop/copied\"\n\
    rotate.api_key = { prefix = \"sbk_\" }\nbackup = { namespace = \"@NAMESPACE@\", name = \"copied\" }\n[telemetry]\nlog_filter = \"trace\"\n";
const OLD: &str = "sbk_0pQ7xV2mK9sT4wZ8nB3cF6hJ1lR5dG0yE7uA2iO4kPm";

/// A Secret that a team made by hand.
async fn by_hand(cluster: &InCluster) {
    let secret = json!({
        "metadata": { "name": "api-key", "annotations": { "team": "shop" } },
        "stringData": { "value": OLD },
    });
    cluster.kubernetes.create(&cluster.secrets(), secret).await;
}

async fn start(sections: &str) -> (Rig, InCluster, Proxy) {
    let (rig, cluster) = tokio::join!(Rig::start(), InCluster::start());
    let proxy = Proxy::start(rig.vault.port()).await;
    let sections = sections.replace("@NAMESPACE@", &cluster.namespace);
    rig.configure_in(&cluster, &proxy.address(), &sections);
    (rig, cluster, proxy)
}

#[tokio::test]
async fn secrets_of_kubernetes_keep_what_places_of_versions_promise() {
    let cluster = InCluster::start().await;
    versions_contract::hold(&SecretVersions::new(cluster.cluster(), cluster.place("promised")))
        .await;
    // Pods that mount the head see what is in force.
    let head = cluster.secret("promised").await;
    assert!(text(&head, "password").contains("hunter2"));
    let immutable = cluster.secret("promised-v24").await["immutable"].clone();
    assert_eq!(immutable, true);
}

#[tokio::test]
async fn versions_that_are_neither_the_last_ones_nor_named_by_a_label_are_removed() {
    let cluster = InCluster::start().await;
    let versions = SecretVersions::new(cluster.cluster(), cluster.place("many"));
    let append = async |numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            versions.append(&value(number), number - 1).await.unwrap();
        }
    };
    let there = async || {
        let mut there = Vec::new();
        for number in 1..=20 {
            let path = format!("{}/many-v{number}", cluster.secrets());
            if cluster.kubernetes.request("GET", &path, None).await.0 == 200 {
                there.push(number);
            }
        }
        there
    };
    append(1..=2).await;
    versions.label(&Labels { current: Some(2), epoch: 1, ..Labels::default() }).await.unwrap();
    append(3..=14).await;
    assert_eq!(there().await, [2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    // Once no label names it, it goes with the next.
    versions.label(&Labels { current: Some(14), epoch: 2, ..Labels::default() }).await.unwrap();
    append(15..=15).await;
    assert_eq!(there().await, [6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(versions.latest().await.unwrap(), 15);
}

#[tokio::test]
async fn what_others_made_is_no_version_whatever_its_name_and_is_left_as_it_is() {
    let cluster = InCluster::start().await;
    let versions = SecretVersions::new(cluster.cluster(), cluster.place("mine"));
    versions.append(&value(1), 0).await.unwrap();
    let theirs = json!({ "metadata": { "name": "mine-v2" }, "stringData": { "value": "x" } });
    cluster.kubernetes.create(&cluster.secrets(), theirs).await;
    assert_eq!(versions.latest().await.unwrap(), 1);
    assert_eq!(versions.read(2).await.unwrap_err().reason, Reason::NotFound);
    let refused = versions.append(&value(2), 1).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Invalid, "{refused}");
    assert!(
        refused.to_string().contains("the Secret mine-v2 was not made by the operator"),
        "{refused}"
    );
    assert_eq!(text(&cluster.secret("mine-v2").await, "value"), "x");
}

#[tokio::test]
async fn a_version_whose_maker_was_killed_before_it_was_noted_is_found() {
    let cluster = InCluster::start().await;
    let versions = SecretVersions::new(cluster.cluster(), cluster.place("torn"));
    versions.append(&value(1), 0).await.unwrap();
    let mut stray = cluster.secret("torn-v1").await;
    stray["metadata"] = json!({
        "name": "torn-v2",
        "labels": stray["metadata"]["labels"],
        "annotations": stray["metadata"]["annotations"],
    });
    cluster.kubernetes.create(&cluster.secrets(), stray).await;
    assert_eq!(versions.latest().await.unwrap(), 2);
    assert_eq!(versions.append(&value(3), 2).await.unwrap(), 3);
}

#[tokio::test]
async fn what_others_write_into_the_head_meanwhile_is_kept() {
    let cluster = InCluster::start().await;
    by_hand(&cluster).await;
    let versions = SecretVersions::new(cluster.cluster(), cluster.place("api-key"));
    assert_eq!(versions.latest().await.unwrap(), 1, "what was there is version 1");
    assert_eq!(versions.read(1).await.unwrap().field("value").unwrap().expose(), OLD.as_bytes());
    versions.append(&value(2), 1).await.unwrap();
    versions.label(&Labels { current: Some(2), epoch: 1, ..Labels::default() }).await.unwrap();
    let head = cluster.secret("api-key").await;
    assert_eq!(head["metadata"]["annotations"]["team"], "shop");
    assert_eq!(text(&head, "username"), "user-2");
    assert_eq!(text(&head, "value"), "", "nothing of the old version is left");
}

#[tokio::test]
async fn a_secret_of_kubernetes_is_rotated_wherever_its_rotation_is_killed() {
    let (rig, cluster, proxy) = start(IN_CLUSTER).await;
    by_hand(&cluster).await;
    let mut last = OLD.to_owned();
    let mut cuts = 0;
    for n in (0..).step_by(3) {
        let place = if n % 2 == 0 { Hold::Before } else { Hold::After };
        proxy.hold(n, place);
        let mut child = rig.spawn_unheard(&["rotate", "IN_CLUSTER", "--wait"]);
        let cut = tokio::select! {
            () = proxy.held() => true,
            status = child.wait() => {
                assert!(status.unwrap().success(), "write {n}");
                false
            }
        };
        proxy.let_go();
        if cut {
            cuts += 1;
            child.kill().await.unwrap();
            rig.succeed(&["rotate", "IN_CLUSTER", "--wait"]).await;
        }
        let head = cluster.secret("api-key").await;
        let value = text(&head, "value");
        assert!(value.starts_with("sbk_") && value != last, "write {n}: a new key is in force");
        let pairs = &head["metadata"]["annotations"]["secretbroker.dev/labels"];
        let pairs: Value = serde_json::from_str(pairs.as_str().unwrap()).unwrap();
        let version = pairs["current"].as_str().unwrap();
        let stored = cluster.secret(&format!("api-key-v{version}")).await;
        assert_eq!(text(&stored, "value"), value, "write {n}: the head is what its label says");
        last = value;
        if !cut {
            break;
        }
    }
    assert!(cuts >= 6, "{cuts} cuts");
    let validated = rig.succeed(&["status", "IN_CLUSTER"]).await;
    assert!(!validated.contains(&last));
}

#[tokio::test]
async fn a_copy_follows_what_is_in_force_and_is_watched_for_drift() {
    let (rig, cluster, _proxy) = start(COPIED).await;
    rig.put("shop/copied", json!({ "value": OLD })).await;
    let mut operator = rig.operate("operator.log");
    let copied = async |version: &str| {
        until("the copy is of this version", async || {
            let path = format!("{}/copied", cluster.secrets());
            let (_, copy) = cluster.kubernetes.request("GET", &path, None).await;
            let of = &copy["metadata"]["annotations"]["secretbroker.dev/version"];
            (of == version).then(|| text(&copy, "value"))
        })
        .await
    };
    assert_eq!(copied("1").await, OLD);
    rig.succeed(&["rotate", "COPIED", "--wait"]).await;
    let new = copied("2").await;
    assert_eq!(new, rig.current("shop/copied").await["value"].as_str().unwrap());
    rig.succeed(&["backup"]).await;

    // Somebody changes it: people are told, once, and nobody overwrites it.
    let path = format!("{}/copied", cluster.secrets());
    let tampered = json!({ "stringData": { "value": "tampered" } });
    let (status, _) = cluster.kubernetes.request("PATCH", &path, Some(tampered.clone())).await;
    assert_eq!(status, 200);
    let events = until("an event of the drift", async || {
        let events = cluster.events("BackupDrifted", "COPIED").await;
        (!events.is_empty()).then_some(events)
    })
    .await;
    assert_eq!(events[0]["type"], "Warning");
    let note = events[0]["note"].as_str().unwrap();
    assert!(note.contains("`value` of version 2") && !note.contains("tampered"), "{note}");
    assert_eq!(copied("2").await, "tampered");
    let looked = rig.run(&["backup", "COPIED"]).await;
    assert_eq!(looked.code, 7, "{looked:?}");
    assert!(looked.out.contains("drifted"), "{looked:?}");

    // A command mends it, and so does the next rotation.
    rig.succeed(&["backup", "COPIED", "--mend"]).await;
    assert_eq!(copied("2").await, new);
    cluster.kubernetes.request("PATCH", &path, Some(tampered)).await;
    rig.succeed(&["rotate", "COPIED", "--wait"]).await;
    let newest = copied("3").await;
    assert_eq!(newest, rig.current("shop/copied").await["value"].as_str().unwrap());
    let log = std::fs::read_to_string(rig.directory.path().join("operator.log")).unwrap();
    assert!(log.contains("lie in etcd as plain text"), "it warns at start");
    let token = cluster.token();
    for value in [OLD, &new, &newest, "tampered", token.trim()] {
        assert!(!log.contains(value), "the log holds a value");
        assert!(!log.contains(&encoded(value)), "the log holds an encoded value");
    }
    operator.kill().await.unwrap();
}

#[tokio::test]
async fn a_foreign_secret_is_never_overwritten_unasked() {
    let (rig, cluster, _proxy) = start(COPIED).await;
    rig.put("shop/copied", json!({ "value": OLD })).await;
    let foreign = json!({ "metadata": { "name": "copied" }, "stringData": { "value": "theirs" } });
    cluster.kubernetes.create(&cluster.secrets(), foreign).await;
    let mut operator = rig.operate("operator.log");
    until("people are told", async || {
        (!cluster.events("BackupDrifted", "COPIED").await.is_empty()).then_some(())
    })
    .await;
    assert_eq!(text(&cluster.secret("copied").await, "value"), "theirs");
    operator.kill().await.unwrap();
}

#[tokio::test]
async fn without_rights_it_is_said_which_are_missing() {
    let (rig, cluster, _proxy) = start(&IN_CLUSTER.replace("@NAMESPACE@", "default")).await;
    let ended = rig.run(&["status", "IN_CLUSTER"]).await;
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.err.contains("namespaces/default/secrets/api-key"), "{ended:?}");
    assert!(ended.err.contains("check the operator's Role (Forbidden)"), "{ended:?}");
    drop(cluster);
}
