//! A pod as a kubelet runs it: read from the API server, its volumes laid out, its containers run one after the other as
//! processes in roots of their own, with their mounts, users, environment, tokens, hooks and probes.
//!
//! What it leaves out: images (every container has the machine's `/usr`, and the program of ours at its place), networks and
//! cgroups. Users are left out too where the tests are not run by root.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::{
    support::{Running, kubernetes::Kubernetes, until},
    volumes,
};

/// The program in the image.
const PROGRAM: &str = env!("CARGO_BIN_EXE_secret-broker");
/// The user and group of images that name none.
const IMAGES_OWN: u64 = 1000;

/// One pod on this machine.
pub(crate) struct Pod {
    directory: TempDir,
    object: Value,
    /// By the name of the volume.
    volumes: BTreeMap<String, PathBuf>,
    running: BTreeMap<String, Running>,
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

impl Pod {
    /// Lays out the volumes of a pod that the API server has.
    pub(crate) async fn read(kubernetes: &Kubernetes, namespace: &str, name: &str) -> Self {
        let pod = kubernetes.read(&format!("/api/v1/namespaces/{namespace}/pods/{name}")).await;
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("volumes");
        let volumes = volumes::lay_out(kubernetes, namespace, &pod, &place).await;
        Self { directory, object: pod, volumes, running: BTreeMap::new() }
    }

    /// Brings the volume of a Secret to what the API server has now.
    pub(crate) async fn refresh(&self, kubernetes: &Kubernetes, name: &str) {
        let mut all = list(&self.object["spec"], "volumes");
        let volume = all.find(|volume| volume["name"] == name).expect("a volume");
        let namespace = text(&self.object["metadata"], "namespace");
        volumes::secret(kubernetes, namespace, &self.object, volume, &self.volumes[name]).await;
    }

    /// Where a path of a volume is.
    pub(crate) fn path(&self, volume: &str, path: &str) -> PathBuf {
        self.volumes[volume].join(path)
    }

    /// What lies at a path of a volume.
    pub(crate) fn file(&self, volume: &str, path: &str) -> String {
        fs::read_to_string(self.path(volume, path)).unwrap_or_default()
    }

    /// Runs the init containers in their order, and then the containers.
    pub(crate) async fn start(&mut self) {
        let spec = self.object["spec"].clone();
        for container in list(&spec, "initContainers") {
            self.launch(container).await;
            if text(container, "restartPolicy") != "Always" {
                let name = text(container, "name");
                assert_eq!(self.ended(name).await, Some(0), "{name}: {}", self.log(name));
            }
        }
        for container in list(&spec, "containers") {
            self.launch(container).await;
        }
    }

    /// Starts a container; what comes next waits for its hook and its start-up probe.
    async fn launch(&mut self, container: &Value) {
        let name = text(container, "name");
        let words = list(container, "command").chain(list(container, "args"));
        let process = Running::start(&mut self.command(container, words));
        self.running.insert(name.to_owned(), process);
        self.hook(container, "postStart").await;
        // Of containers, only init containers are waited for.
        if text(container, "restartPolicy") == "Always" {
            self.started(container).await;
        }
    }

    /// Runs a container's hook beside its process, if it has one.
    async fn hook(&self, container: &Value, name: &str) {
        let hook = &container["lifecycle"][name]["exec"];
        if hook.is_object() {
            let words = list(hook, "command");
            let mut process = Running::start(&mut self.command(container, words));
            let ended = exit(&mut process).await;
            assert_eq!(ended, Some(0), "{name}: {}", self.log(text(container, "name")));
        }
    }

    /// Waits for the start-up probe of a container, for as long as it may fail.
    async fn started(&mut self, container: &Value) {
        let name = text(container, "name");
        let probe = &container["startupProbe"];
        let secs = |key: &str| probe[key].as_u64().expect("a number");
        let period = Duration::from_secs(secs("periodSeconds"));
        let deadline = Instant::now() + period * u32::try_from(secs("failureThreshold")).unwrap();
        let url = url(container, &probe["httpGet"]);
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("it");
        let mut wait = Duration::from_millis(20);
        while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            let process = self.running.get_mut(name).expect("it runs");
            let ended = process.0.try_wait().expect("a status");
            assert!(ended.is_none(), "{name} ended: {}", self.log(name));
            assert!(Instant::now() < deadline, "{name} did not start: {}", self.log(name));
            sleep(wait).await;
            wait = (wait * 2).min(period);
        }
    }

    /// Waits until a container ended; its exit code.
    pub(crate) async fn ended(&mut self, name: &str) -> Option<i32> {
        let mut process = self.running.remove(name).expect("it runs");
        exit(&mut process).await
    }

    /// Ends a container in order, as the kubelet does when the pod is done.
    pub(crate) async fn stop(&mut self, name: &str) -> Option<i32> {
        self.hook(self.container(name), "preStop").await;
        self.running[name].signal(rustix::process::Signal::TERM);
        self.ended(name).await
    }

    /// Ends the application, and then the sidecar, which ends well.
    pub(crate) async fn end(&mut self) {
        self.stop("app").await;
        let ended = self.stop("secret-broker").await;
        assert_eq!(ended, Some(0), "{}", self.log("secret-broker"));
    }

    /// Kills the sidecar, and starts it again as its restart policy says.
    pub(crate) async fn kill(&mut self, name: &str) {
        drop(self.running.remove(name).expect("it runs"));
        self.restart(name).await;
    }

    /// Starts a container that ended again.
    pub(crate) async fn restart(&mut self, name: &str) {
        let container = self.container(name).clone();
        self.launch(&container).await;
    }

    /// Whether a container was started.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// What a container wrote.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_file(name)).unwrap_or_default()
    }

    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    fn container(&self, name: &str) -> &Value {
        let spec = &self.object["spec"];
        let mut all = list(spec, "initContainers").chain(list(spec, "containers"));
        all.find(|container| container["name"] == name).expect("a container")
    }

    /// These words in the container: in its root, with its mounts, as its user, in its environment.
    fn command<'a>(&self, container: &Value, words: impl Iterator<Item = &'a Value>) -> Command {
        let name = text(container, "name");
        let root = self.directory.path().join("roots").join(name);
        prepare(&root, container);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file(name));
        let log = log.expect("a log");
        let mut command = Command::new("unshare");
        if !rustix::process::getuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "sh", "-euc"])
            .arg(self.script(&root, container))
            .arg("sh")
            .args(words.map(|word| word.as_str().expect("a word")))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(list(container, "env").map(|one| (text(one, "name"), text(one, "value"))))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0);
        command
    }

    /// Mounts what the container mounts below its root, and becomes its command there.
    fn script(&self, root: &Path, container: &Value) -> String {
        let root = root.display();
        let mut script = String::new();
        for bound in ["usr", "proc", "dev"] {
            let _ = writeln!(script, "mount --rbind /{bound} {root}/{bound}");
        }
        let _ = writeln!(script, "echo '127.0.0.1 localhost' >{root}/etc/hosts");
        let _ = writeln!(script, "mount --bind {PROGRAM} {root}/secret-broker");
        for mount in list(container, "volumeMounts") {
            let Some(volume) = self.volumes.get(text(mount, "name")) else { continue };
            let (from, to) = (volume.display(), text(mount, "mountPath"));
            let _ = writeln!(script, "mount --bind {from} {root}{to}");
            if mount["readOnly"] == true {
                let _ = writeln!(script, "mount -o remount,bind,ro {root}{to}");
            }
        }
        let user = self.user(container);
        let _ = writeln!(script, "exec /usr/sbin/chroot {user} {root} \"$@\"");
        script
    }

    /// Who runs the container, for `chroot`.
    fn user(&self, container: &Value) -> String {
        if !rustix::process::getuid().is_root() {
            return String::new();
        }
        let pod = &self.object["spec"]["securityContext"];
        let id = |key: &str| {
            let own = container["securityContext"][key].as_u64();
            own.or(pod[key].as_u64()).unwrap_or(IMAGES_OWN)
        };
        let groups = list(pod, "supplementalGroups").chain(pod.get("fsGroup"));
        let groups = groups.map(ToString::to_string).collect::<Vec<_>>().join(",");
        format!("--userspec={}:{} --groups={groups}", id("runAsUser"), id("runAsGroup"))
    }
}

/// Makes what the container's mounts go onto. Not left to its script: a hook's runs at the same time.
fn prepare(root: &Path, container: &Value) {
    let mounts = list(container, "volumeMounts").map(|mount| text(mount, "mountPath"));
    for directory in ["/usr", "/proc", "/dev", "/tmp", "/etc"].into_iter().chain(mounts) {
        fs::create_dir_all(root.join(&directory[1..])).expect("a directory");
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        if !root.join(link).is_symlink() {
            symlink(Path::new("usr").join(link), root.join(link)).expect("a link");
        }
    }
    let program = root.join("secret-broker");
    fs::OpenOptions::new().create(true).append(true).open(program).expect("a file");
}

/// Where a probe looks.
fn url(container: &Value, probe: &Value) -> String {
    let port = list(container, "ports").find(|port| port["name"] == probe["port"]);
    let port = &port.expect("a port")["containerPort"];
    format!("http://127.0.0.1:{port}{}", text(probe, "path"))
}

async fn exit(process: &mut Running) -> Option<i32> {
    until("it ends", async || process.0.try_wait().expect("a status")).await.code()
}
