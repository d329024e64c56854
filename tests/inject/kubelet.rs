//! A pod as a kubelet runs it: read from the API server, its volumes laid out, its containers run one after the other as
//! processes in roots of their own, with their mounts, environment, tokens and probes.
//!
//! What it leaves out: images (every container has the machine's `/usr`, and the program of ours at its place), users and
//! cgroups.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Running, kubernetes::Kubernetes, until};

/// The program in the image.
const PROGRAM: &str = env!("CARGO_BIN_EXE_secret-broker");

/// One pod on this machine.
pub(crate) struct Pod {
    directory: TempDir,
    spec: Value,
    /// By the name of the volume.
    volumes: BTreeMap<String, PathBuf>,
    running: BTreeMap<String, Running>,
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

impl Pod {
    /// Lays out the volumes of a pod that the API server has.
    pub(crate) async fn read(kubernetes: &Kubernetes, namespace: &str, name: &str) -> Self {
        let pod = kubernetes.read(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await;
        let directory = tempfile::tempdir().expect("a directory");
        let mut volumes = BTreeMap::new();
        for volume in list(&pod["spec"], "volumes") {
            let at = directory.path().join("volumes").join(text(volume, "name"));
            fs::create_dir_all(&at).expect("a volume");
            for item in list(&volume["downwardAPI"], "items") {
                let field = text(&item["fieldRef"], "fieldPath");
                let annotation = field.split('\'').nth(1).expect("an annotation");
                let content = text(&pod["metadata"]["annotations"], annotation);
                let file = at.join(text(item, "path"));
                fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
                fs::write(file, content).expect("a file");
            }
            for source in list(&volume["projected"], "sources") {
                let token = &source["serviceAccountToken"];
                if token.is_object() {
                    let account = text(&pod["spec"], "serviceAccountName");
                    let audience = token["audience"].as_str();
                    let token_text = kubernetes.token(namespace, account, audience).await;
                    fs::write(at.join(text(token, "path")), token_text).expect("a token");
                }
            }
            volumes.insert(text(volume, "name").to_owned(), at);
        }
        Self { directory, spec: pod["spec"].clone(), volumes, running: BTreeMap::new() }
    }

    /// Where a volume lies.
    pub(crate) fn volume(&self, name: &str) -> &Path {
        &self.volumes[name]
    }

    /// What lies at a path of a volume.
    pub(crate) fn file(&self, volume: &str, path: &str) -> String {
        fs::read_to_string(self.volumes[volume].join(path)).unwrap_or_default()
    }

    /// Runs the init containers in their order, and then the containers.
    pub(crate) async fn start(&mut self) {
        let spec = self.spec.clone();
        for container in list(&spec, "initContainers") {
            self.run(container);
            if text(container, "restartPolicy") == "Always" {
                self.started(container).await;
            } else {
                let name = text(container, "name");
                assert_eq!(self.ended(name).await, Some(0), "{name}: {}", self.log(name));
            }
        }
        for container in list(&spec, "containers") {
            self.run(container);
        }
    }

    /// Waits for the start-up probe of a container.
    async fn started(&mut self, container: &Value) {
        let name = text(container, "name").to_owned();
        let probe = &container["startupProbe"]["httpGet"];
        let port = list(container, "ports").find(|port| port["name"] == probe["port"]);
        let port = &port.expect("a port")["containerPort"];
        let url = format!("http://127.0.0.1:{port}{}", text(probe, "path"));
        let http = reqwest::Client::new();
        until("the start-up probe succeeds", async || {
            let process = self.running.get_mut(&name).expect("it runs");
            let ended = process.0.try_wait().expect("a status");
            assert!(ended.is_none(), "{name} ended: {}", self.log(&name));
            http.get(&url).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Waits until a container ended; its exit code.
    pub(crate) async fn ended(&mut self, name: &str) -> Option<i32> {
        let mut process = self.running.remove(name).expect("it runs");
        let status = until("it ends", async || process.0.try_wait().expect("a status")).await;
        status.code()
    }

    /// Ends a container in order, as the kubelet does when the pod is done.
    pub(crate) async fn stop(&mut self, name: &str) -> Option<i32> {
        self.running[name].signal(rustix::process::Signal::TERM);
        self.ended(name).await
    }

    /// Kills the sidecar, and starts it again as its restart policy says.
    pub(crate) async fn kill(&mut self, name: &str) {
        drop(self.running.remove(name).expect("it runs"));
        let spec = self.spec.clone();
        let mut all = list(&spec, "initContainers");
        let container = all.find(|container| container["name"] == name).expect("a container");
        self.run(container);
        self.started(container).await;
    }

    /// What a container wrote.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    /// Where a container writes to.
    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    fn run(&mut self, container: &Value) {
        let name = text(container, "name");
        let root = self.directory.path().join("roots").join(name);
        fs::create_dir_all(&root).expect("a root");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file(name));
        let log = log.expect("a log");
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--mount", "sh", "-euc"])
            .arg(self.script(&root, container))
            .arg("sh")
            .args(list(container, "command").chain(list(container, "args")).map(word))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(list(container, "env").map(|one| (text(one, "name"), text(one, "value"))))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0);
        self.running.insert(name.to_owned(), Running::start(&mut command));
    }

    /// Mounts what the container mounts below its root, and becomes its command there.
    fn script(&self, root: &Path, container: &Value) -> String {
        let root = root.display();
        let mut script = format!(
            "mkdir -p {root}/usr {root}/proc {root}/dev {root}/tmp {root}/etc\n\
             mount --rbind /usr {root}/usr; mount --rbind /proc {root}/proc; mount --rbind /dev {root}/dev\n\
             for link in bin sbin lib lib64; do ln -sfn usr/$link {root}/$link; done\n\
             echo '127.0.0.1 localhost' >{root}/etc/hosts\n\
             : >>{root}/secret-broker; mount --bind {PROGRAM} {root}/secret-broker\n"
        );
        for mount in list(container, "volumeMounts") {
            let Some(volume) = self.volumes.get(text(mount, "name")) else { continue };
            let (from, to) = (volume.display(), text(mount, "mountPath"));
            let _ = writeln!(script, "mkdir -p {root}{to}; mount --bind {from} {root}{to}");
            if mount["readOnly"] == true {
                let _ = writeln!(script, "mount -o remount,bind,ro {root}{to}");
            }
        }
        let _ = writeln!(script, "exec /usr/sbin/chroot {root} \"$@\"");
        script
    }
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a word")
}
