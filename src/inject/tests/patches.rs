//! What a pod looks like once it is patched, in each mode.

use serde_json::{Value, json};

use super::{Op, applied, patched, pod_with};
use crate::config::Config;

fn container<'v>(pod: &'v Value, list: &str, name: &str) -> &'v Value {
    let list = pod["spec"][list].as_array().expect("a list");
    list.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {list:#?}"))
}

fn names<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    let list = list.as_array().into_iter().flatten();
    list.map(|one| one[key].as_str().unwrap_or_default()).collect()
}

fn told(pairs: &[(&str, &str)]) -> String {
    let all = patched(&pod_with(pairs)).expect_err("mistakes");
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_native_sidecar_stands_first_and_everything_else_finds_it() {
    let (_, pod) = patched(&pod_with(&[
        ("inject", "true"),
        ("secrets", "DB"),
        ("files", "password=DB.password"),
    ]))
    .unwrap();
    assert_eq!(names(&pod["spec"]["initContainers"], "name"), ["secret-broker", "migrate"]);
    let sidecar = container(&pod, "initContainers", "secret-broker");
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/startupz");
    assert_eq!(sidecar["startupProbe"]["failureThreshold"], 300);
    assert_eq!(
        sidecar["args"],
        json!([
            "serve",
            "--config",
            "/etc/secret-broker/config.toml",
            "--render",
            "/etc/secret-broker/templates/password:/run/secrets/broker/password:440"
        ])
    );
    let security = &sidecar["securityContext"];
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(
        (&security["runAsNonRoot"], &security["readOnlyRootFilesystem"]),
        (&json!(true), &json!(true))
    );
    for (list, name) in
        [("initContainers", "migrate"), ("containers", "app"), ("containers", "proxy")]
    {
        let one = container(&pod, list, name);
        assert_eq!(
            names(&one["volumeMounts"], "mountPath"),
            ["/run/secret-broker", "/run/secrets/broker"],
            "{name}"
        );
        let env = names(&one["env"], "name");
        assert!(env.ends_with(&["SECRET_BROKER_ADDRESS", "SECRET_BROKER_CERT_DIR"]), "{env:?}");
    }
    let volumes = names(&pod["spec"]["volumes"], "name");
    let expected = [
        "secret-broker-config",
        "secret-broker-run",
        "secret-broker-token",
        "secret-broker-state",
        "secret-broker-key",
        "secret-broker-files",
    ];
    assert_eq!(volumes, expected);
    assert_eq!(pod["spec"]["volumes"][1]["emptyDir"]["medium"], "Memory");
    assert_eq!(pod["spec"]["securityContext"]["supplementalGroups"], json!([65532]));
    assert_eq!(pod["metadata"]["annotations"]["secretbroker.dev/status"], "injected");
}

#[test]
fn the_configuration_is_small_and_one_that_the_sidecar_takes() {
    let (_, pod) = patched(&pod_with(&[("secrets", "DB"), ("environment", "staging")])).unwrap();
    let text = pod["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap();
    assert!(Config::parse(text, "config.toml", &|_| None).is_ok(), "{text}");
    for part in [
        "generate_key = true\nkey_file = \"/run/secret-broker-key/key\"\npath = \"/run/secret-broker-state/state.age\"",
        "revoke_on_exit = true",
        "role = \"shop-api\"",
        "client_id = \"spiffe://cluster.local/ns/shop/sa/api\"",
        "token_file = \"/var/run/secrets/secretbroker.dev/token\"",
        "file_mode = \"0640\"",
        "environment = \"staging\"",
        "listen = \"127.0.0.1:7443\"",
        "http = \"0.0.0.0:7444\"",
        "[secrets.DB]",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for absent in
        ["PAYMENTS", "API_KEY", "[server.limits]", "poll_interval", "alt_names", "{namespace}"]
    {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
}

#[test]
fn the_workload_api_is_mounted_into_the_sidecar_alone_and_gives_the_identity_of_the_pod() {
    let (_, pod) = patched(&pod_with(&[("secrets", "DB"), ("tls", "spiffe")])).unwrap();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == "secret-broker-spiffe");
    let driver = json!({ "driver": "csi.spiffe.io", "readOnly": true });
    assert_eq!(volume.expect("a volume")["csi"], driver);
    let sidecar = container(&pod, "initContainers", "secret-broker");
    let endpoint = "unix:///spiffe-workload-api/spire-agent.sock";
    let variable = json!([{ "name": "SPIFFE_ENDPOINT_SOCKET", "value": endpoint }]);
    assert_eq!(sidecar["env"], variable);
    assert!(names(&sidecar["volumeMounts"], "mountPath").contains(&"/spiffe-workload-api"));
    let app = container(&pod, "containers", "app");
    assert_eq!(names(&app["volumeMounts"], "mountPath"), ["/run/secret-broker"]);
    // An SVID carries no address.
    assert_eq!(app["env"][1]["value"], "https://localhost:7443");
    let text = pod["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap();
    let checked = Config::parse(text, "config.toml", &|_| Some(endpoint.to_owned())).unwrap();
    let id = "spiffe://cluster.local/ns/shop/sa/api";
    assert!(text.contains(&format!("svid = \"{id}\"")), "{text}");
    assert!(checked.config.tls.is_some() && text.contains(&format!("identities = [\"{id}\"")));
}

#[test]
fn patching_a_patched_pod_changes_nothing_in_any_mode() {
    for pairs in [
        &[("secrets", "DB")][..],
        &[("secrets", "DB"), ("mode", "plain"), ("files", "a=DB.x")],
        &[("secrets", "DB"), ("mode", "init"), ("template.t", "x")],
        &[("secrets", "DB"), ("env", "A=DB.password"), ("exec-containers", "app")],
        &[("secrets", "DB"), ("tls", "vault-pki"), ("tls-path", "pki/issue/pods")],
        &[("secrets", "DB"), ("tls", "files"), ("tls-secret", "certs")],
        &[("secrets", "DB"), ("tls", "spiffe")],
        &[
            ("secrets", "DB"),
            ("ca-config-map", "vault-ca"),
            ("connect", "socket"),
            ("cpu-limit", "0.5"),
        ],
        &[("config-map", "mine"), ("files", "a=DB.x")],
    ] {
        let (first, pod) = patched(&pod_with(pairs)).unwrap();
        assert!(!first.is_empty());
        let (again, _) = patched(&pod).unwrap();
        assert_eq!(again, Vec::<Op>::new(), "{pairs:?}");
    }
}

#[test]
fn what_the_api_server_fills_in_is_left_alone_and_later_containers_are_served() {
    let (_, mut pod) = patched(&pod_with(&[("secrets", "DB"), ("cpu-request", "0.1")])).unwrap();
    // Defaults, canonical quantities, a token's mount, and a container of another webhook.
    let sidecar = &mut pod["spec"]["initContainers"][0];
    sidecar["terminationMessagePath"] = json!("/dev/termination-log");
    sidecar["startupProbe"]["httpGet"]["scheme"] = json!("HTTP");
    sidecar["resources"]["requests"]["cpu"] = json!("100m");
    let token = json!({ "name": "kube-api-access", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" });
    sidecar["volumeMounts"].as_array_mut().unwrap().push(token);
    pod["spec"]["volumes"][0]["downwardAPI"]["defaultMode"] = json!(420);
    pod["spec"]["volumes"][0]["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = json!("v1");
    assert_eq!(patched(&pod).unwrap().0, Vec::<Op>::new());
    pod["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .insert(0, json!({ "name": "mesh", "image": "mesh" }));
    let (ops, after) = patched(&pod).unwrap();
    assert!(ops.iter().all(|op| op.path().starts_with("/spec/containers/0/")), "{ops:#?}");
    assert_eq!(
        names(&container(&after, "containers", "mesh")["volumeMounts"], "name"),
        ["secret-broker-run"]
    );
}

#[test]
fn a_plain_container_guards_the_order_and_leaves_init_containers_alone() {
    let (_, pod) = patched(&pod_with(&[("secrets", "DB"), ("mode", "plain")])).unwrap();
    assert_eq!(names(&pod["spec"]["containers"], "name"), ["secret-broker", "app", "proxy"]);
    let sidecar = container(&pod, "containers", "secret-broker");
    let hook = &sidecar["lifecycle"]["postStart"]["exec"]["command"];
    assert_eq!(*hook, json!(["/secret-broker", "wait", "--timeout", "300s"]));
    assert!(sidecar.get("restartPolicy").is_none());
    assert!(container(&pod, "initContainers", "migrate").get("volumeMounts").is_none());
}

#[test]
fn an_init_container_renders_files_and_ends() {
    let (_, pod) = patched(&pod_with(&[
        ("secrets", "DB"),
        ("mode", "init"),
        ("files", "password=DB.password"),
    ]))
    .unwrap();
    let sidecar = container(&pod, "initContainers", "secret-broker");
    assert_eq!(sidecar["args"].as_array().unwrap().last().unwrap(), "--once");
    for absent in ["restartPolicy", "startupProbe", "readinessProbe", "ports"] {
        assert!(sidecar.get(absent).is_none(), "{absent}");
    }
    let app = container(&pod, "containers", "app");
    assert_eq!(names(&app["volumeMounts"], "mountPath"), ["/run/secrets/broker"]);
    assert_eq!(names(&app["env"], "name"), ["A"], "there is no broker to reach");
    let text = pod["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap();
    for absent in ["listen", "http =", "[state]", "revoke_on_exit"] {
        assert!(!text.contains(absent), "{absent}: {text}");
    }
    let volumes = names(&pod["spec"]["volumes"], "name");
    assert!(!volumes.contains(&"secret-broker-state"), "{volumes:?}");
}

#[test]
fn state_and_key_lie_in_two_memory_volumes_of_the_sidecars_alone() {
    for mode in ["native", "plain"] {
        let (_, pod) = patched(&pod_with(&[("secrets", "DB"), ("mode", mode)])).unwrap();
        for volume in ["secret-broker-state", "secret-broker-key"] {
            let all = pod["spec"]["volumes"].as_array().unwrap();
            let made = all.iter().find(|one| one["name"] == volume).expect("a volume");
            assert_eq!(made["emptyDir"]["medium"], "Memory", "{volume}");
            let containers = ["initContainers", "containers"]
                .iter()
                .flat_map(|list| pod["spec"][list].as_array().unwrap());
            let with =
                containers.filter(|one| names(&one["volumeMounts"], "name").contains(&volume));
            assert_eq!(with.map(|one| &one["name"]).collect::<Vec<_>>(), ["secret-broker"]);
        }
    }
}

#[test]
fn the_files_of_a_secret_are_for_the_pods_group_where_it_has_one() {
    let mut pod = pod_with(&[("secrets", "DB"), ("tls", "files"), ("tls-secret", "certs")]);
    let mode = |pod: &Value| {
        let (_, pod) = patched(pod).unwrap();
        let volumes = pod["spec"]["volumes"].as_array().unwrap();
        let tls = volumes.iter().find(|one| one["name"] == "secret-broker-tls").expect("it");
        tls["secret"]["defaultMode"].as_u64().expect("a mode")
    };
    assert_eq!(mode(&pod), 0o444);
    pod["spec"]["securityContext"] = json!({ "fsGroup": 2000 });
    assert_eq!(mode(&pod), 0o440);
}

#[test]
fn a_command_is_wrapped_once_and_by_name_where_there_are_several() {
    let env = [("secrets", "DB"), ("env", "PGPASSWORD=DB.password"), ("exec-containers", "app")];
    let (_, pod) = patched(&pod_with(&env)).unwrap();
    let command = &container(&pod, "containers", "app")["command"];
    assert_eq!(
        *command,
        json!([
            "/secret-broker-bin/secret-broker",
            "exec",
            "--env",
            "PGPASSWORD=DB.password",
            "--on-rotation",
            "restart",
            "--",
            "/app",
            "serve"
        ])
    );
    assert_eq!(
        names(&pod["spec"]["initContainers"], "name"),
        ["secret-broker", "secret-broker-copy", "migrate"]
    );
    assert!(container(&pod, "containers", "proxy").get("command").is_none());
    let several = told(&env[..2]);
    assert!(
        several.contains("exec-containers: missing, and the pod has 2 containers"),
        "{several}"
    );
    let hidden = told(&[env[0], env[1], ("exec-containers", "proxy")]);
    assert!(hidden.contains("container proxy has no command"), "{hidden}");
    let nobody = told(&[env[0], env[1], ("exec-containers", "nobody")]);
    assert!(
        nobody.contains("\"nobody\" is no container of this pod; expected one of app, proxy"),
        "{nobody}"
    );
}

#[test]
fn a_mount_of_the_pods_own_in_the_brokers_place_is_refused() {
    let mut pod = pod_with(&[("secrets", "DB")]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{ "name": "mine", "mountPath": "/run/secret-broker" }]);
    let all = patched(&pod).unwrap_err();
    assert!(
        all[0].to_string().contains("another volume is mounted at /run/secret-broker"),
        "{all:?}"
    );
}

#[test]
fn vault_issues_the_applications_certificate_too() {
    // The mode of files is theirs alone: the key stays the group's.
    let pairs = [
        ("secrets", "DB"),
        ("tls", "vault-pki"),
        ("tls-path", "pki/issue/pods"),
        ("files", "password=DB.password"),
        ("files-mode", "0444"),
    ];
    let (_, pod) = patched(&pod_with(&pairs)).unwrap();
    let args = container(&pod, "initContainers", "secret-broker")["args"].to_string();
    for file in ["ca.pem", "client.pem", "client.key"] {
        assert!(args.contains(&format!(":/run/secret-broker/{file}:440")), "{args}");
    }
    assert!(args.contains(":/run/secrets/broker/password:444"), "{args}");
    let text = pod["metadata"]["annotations"]["secretbroker.dev/config"].as_str().unwrap();
    assert!(Config::parse(text, "config.toml", &|_| None).is_ok(), "{text}");
    assert!(text.contains("uri_sans = \"spiffe://cluster.local/ns/shop/sa/api\""), "{text}");
}

#[test]
fn only_what_is_missing_is_added() {
    let before = pod_with(&[("secrets", "DB")]);
    let (ops, after) = patched(&before).unwrap();
    assert_eq!(applied(&before, &json!(ops)), after);
    assert!(ops.iter().all(|op| matches!(op, Op::Add { .. })), "{ops:#?}");
    let app = container(&after, "containers", "app");
    assert_eq!((&app["image"], &app["env"][0]["name"]), (&json!("app"), &json!("A")));
}
