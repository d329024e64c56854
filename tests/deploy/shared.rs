//! `secret-operator bootstrap vault` on a Vault that others use, too: what is theirs stays.

use serde_json::json;

use super::bootstrap::{CONFIG, INJECT, Rig};

#[tokio::test]
async fn roles_that_others_have_at_a_connection_are_kept() {
    let rig = Rig::start().await;
    rig.bootstrap(&[]).await;
    let allowed = async || {
        let connection = rig.vault.read("database/config/shop").await;
        connection["data"]["allowed_roles"].clone()
    };
    let theirs = json!({ "allowed_roles": ["reports", "billing"] });
    rig.vault.write("database/config/shop", theirs).await;
    for (more, line) in
        [(&["--dry-run"][..], "would make 0 and change 1"), (&[], "made 0, changed 1")]
    {
        let shown = rig.bootstrap(more).await;
        assert!(shown.contains(line), "{shown}");
        assert!(shown.contains(r#"- allowed_roles = ["reports","billing"]"#), "{shown}");
        let line = r#"+ allowed_roles = ["other","reports","shop-main","billing"]"#;
        assert!(shown.contains(line), "{shown}");
    }
    assert_eq!(allowed().await, json!(["other", "reports", "shop-main", "billing"]));
    assert!(rig.bootstrap(&[]).await.contains("nothing to do"));
    let user = rig.vault.read("database/creds/shop-main").await;
    assert!(user["data"]["username"].is_string(), "the connection has its password still");
    // Who lets every role in has let ours in.
    rig.vault.write("database/config/shop", json!({ "allowed_roles": ["*"] })).await;
    assert!(rig.bootstrap(&[]).await.contains("nothing to do"));
    assert_eq!(allowed().await, json!(["*"]));
}

#[tokio::test]
async fn an_auth_method_of_another_cluster_is_told_and_left_alone_unless_people_say_so() {
    let rig = Rig::start().await;
    rig.vault.write("sys/auth/kubernetes", json!({ "type": "kubernetes" })).await;
    let theirs =
        json!({ "kubernetes_host": "https://other.example:6443", "disable_local_ca_jwt": true });
    rig.vault.write("auth/kubernetes/config", theirs.clone()).await;
    // Policies are nobody's in particular.
    let policy = json!({ "policy": "# the other cluster's\n" });
    rig.vault.write("sys/policies/acl/shop-api", policy.clone()).await;
    let is_theirs = async || {
        rig.vault.read("sys/policies/acl/shop-api").await["data"]["policy"] == policy["policy"]
    };
    let host = async || {
        let config = rig.vault.read("auth/kubernetes/config").await;
        config["data"]["kubernetes_host"].as_str().unwrap().to_owned()
    };
    for more in [&["--dry-run"][..], &[]] {
        let ended = rig.run(&rig.vault.root, &[&["bootstrap", "vault"], more].concat()).await;
        assert_eq!(ended.code, 3, "{}{}", ended.out, ended.err);
        for part in [
            r#"! auth/kubernetes/config: kubernetes_host = "https://other.example:6443" is there, and is left alone"#,
            "! auth/kubernetes/role/shop-api: auth/kubernetes/ is somebody else's, and is left alone",
            "! policy shop-api: auth/kubernetes/ is somebody else's, and is left alone",
            "5 are somebody else's",
            "give this one a mount of its own (bootstrap.kubernetes.mount), or make it this one's by --replace-auth",
        ] {
            assert!(ended.out.contains(part), "{part} in\n{}", ended.out);
        }
        assert_eq!(host().await, "https://other.example:6443");
        // Nobody of the other cluster gets a role of ours.
        let role = rig.vault.request("GET", "auth/kubernetes/role/shop-api", None).await;
        assert_eq!(role.0, 404);
        assert!(is_theirs().await);
    }
    let shown = rig.bootstrap(&["--replace-auth", "--dry-run"]).await;
    assert!(shown.contains(r#"- kubernetes_host = "https://other.example:6443""#), "{shown}");
    rig.bootstrap(&["--replace-auth"]).await;
    assert!(!is_theirs().await);
    assert_eq!(host().await, "https://127.0.0.1:6443");
    assert!(rig.bootstrap(&[]).await.contains("nothing to do"));

    // A mount of its own has both log in, each with policies of its own.
    rig.vault.write("sys/policies/acl/shop-api", policy.clone()).await;
    rig.vault.write("auth/kubernetes/config", theirs).await;
    rig.write(&CONFIG.replace(
        "[bootstrap.kubernetes]\n",
        "[bootstrap.kubernetes]\nmount = \"kubernetes-eu\"\n",
    ));
    rig.bootstrap(&[]).await;
    assert_eq!(host().await, "https://other.example:6443");
    let config = rig.vault.read("auth/kubernetes-eu/config").await;
    assert_eq!(config["data"]["kubernetes_host"], "https://127.0.0.1:6443");
    assert!(is_theirs().await);
    let role = rig.vault.read("auth/kubernetes-eu/role/shop-api").await;
    assert_eq!(role["data"]["token_policies"], json!(["kubernetes-eu-shop-api"]));
    let text = rig.vault.read("sys/policies/acl/kubernetes-eu-shop-api").await;
    assert!(text["data"]["policy"].as_str().unwrap().contains("path \""), "{text}");
}

#[tokio::test]
async fn two_roles_of_one_name_are_a_mistake() {
    let rig = Rig::start().await;
    let path = rig.directory.path().join("inject.toml");
    let one_for_all = INJECT.replace("{namespace}.{service_account}", "shop-api");
    std::fs::write(&path, one_for_all).unwrap();
    let arguments = ["bootstrap", "vault", "--dry-run", "--inject", path.to_str().unwrap()];
    let ended = rig.run(&rig.vault.root, &arguments).await;
    assert_eq!(ended.code, 2, "{}{}", ended.out, ended.err);
    let told = "sidecar.vault.auth.role: `shop-api` is a role of [bootstrap], too";
    assert!(ended.err.contains(told), "{}", ended.err);
    rig.configure("[[bootstrap.sidecars]]\nrole = \"shop-api\"\nnamespaces = [\"lab\"]\nservice_accounts = [\"api\"]\nsecrets = [\"JWT_SECRET\"]\n");
    let ended = rig.run(&rig.vault.root, &["bootstrap", "vault", "--dry-run"]).await;
    assert_eq!(ended.code, 2, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("`shop-api` is another role, too"), "{}", ended.err);
}
