//! Settings and a pod → the patch.
//!
//! Everything is added where it is missing and left where it stands, so that patching a patched pod changes nothing, and
//! containers that others added meanwhile get what they lack.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Mistake,
    annotations::{PREFIX, whole},
    configuration::{self, Identity},
    containers::{COPY, SIDECAR, variable},
    edit::{Edit, Op, escaped},
    exec::{is_wrapped, wrapped},
    settings::Settings,
};
use crate::config::{
    self,
    inject::{InjectConfig, Mode, TlsSource},
    raw::Secret,
};

const INIT: &str = "/spec/initContainers";
const APPS: &str = "/spec/containers";

/// A patch, and what people are told besides.
#[derive(Debug)]
pub struct Patch {
    /// The operations.
    pub ops: Vec<Op>,
    /// What is allowed but probably not meant.
    pub warnings: Vec<String>,
}

/// The annotations of a pod or a namespace.
pub fn annotations(object: &Value) -> BTreeMap<String, String> {
    let all = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let texts = all.into_iter().flatten().filter_map(|(name, text)| Some((name, text.as_str()?)));
    texts.map(|(name, text)| (name.clone(), text.to_owned())).collect()
}

/// Whether the pod says that it was injected and has the sidecar.
pub fn is_injected(pod: &Value) -> bool {
    let marked = annotations(pod).get(&whole("status")).is_some_and(|status| status == "injected");
    let has = |list: &str| {
        let list = pod.pointer(list).and_then(Value::as_array);
        list.into_iter().flatten().any(|container| name(container) == SIDECAR)
    };
    marked && (has(INIT) || has(APPS))
}

/// Whether the pod shares the network of its node.
pub fn uses_host_network(pod: &Value) -> bool {
    pod.pointer("/spec/hostNetwork").and_then(Value::as_bool).unwrap_or(false)
}

/// The annotations that the webhook writes for these settings. `given` are the pod's and its namespace's, whose templates
/// have to be the pod's own to be mounted.
///
/// # Errors
/// Why the sidecar would not take its configuration.
pub fn generated(
    settings: &Settings,
    given: &BTreeMap<String, String>,
    identity: &Identity,
    catalogue: &BTreeMap<String, Secret>,
) -> Result<BTreeMap<String, String>, Vec<Mistake>> {
    let mut all = BTreeMap::new();
    if settings.config_map.is_none() {
        all.insert(whole("config"), configuration::text(settings, identity, catalogue)?);
    }
    for file in settings.files.values() {
        let name = whole(&file.annotation);
        let text = file.generated.as_ref().or_else(|| given.get(&name));
        all.insert(name, text.cloned().unwrap_or_default());
    }
    Ok(all)
}

/// The patch that gives a pod what its settings say.
///
/// # Errors
/// All that stands against it.
pub fn patch(
    pod: &Value,
    settings: &Settings,
    generated: &BTreeMap<String, String>,
) -> Result<Patch, Vec<Mistake>> {
    let mut plan = Plan { edit: Edit::of(pod.clone()), settings, mistakes: Vec::new() };
    plan.annotate(generated);
    plan.named();
    let wraps = plan.applications();
    plan.own(wraps);
    let edit = &mut plan.edit;
    let grouped = edit.at("/spec/securityContext/fsGroup").is_some_and(Value::is_number);
    edit.cover("/spec/volumes", &Value::Array(settings.volumes(wraps, grouped)));
    let group = json!(settings.sidecar.run_as_group);
    let groups = "/spec/securityContext/supplementalGroups";
    // Files of the sidecar are of this group, unless the pod has one for all its volumes.
    if !edit.list(groups).contains(&group) {
        edit.append(groups, group);
    }
    let warnings = warnings(pod, settings);
    if plan.mistakes.is_empty() {
        Ok(Patch { ops: plan.edit.into_ops(), warnings })
    } else {
        Err(plan.mistakes)
    }
}

/// Whether a pod that asks for the whole catalogue would get a sidecar that starts.
///
/// # Errors
/// What would keep it from that.
pub fn sample(config: &InjectConfig) -> Result<(), Vec<config::Mistake>> {
    let own = |all: Vec<Mistake>| {
        all.into_iter().map(|mistake| config::Mistake {
            key: config::Key::of("sidecar"),
            line: None,
            found: format!("no pod could have it: {}: {}", mistake.place, mistake.found),
            accepted: mistake.accepted,
        })
    };
    if config.secrets.is_empty() {
        return Ok(());
    }
    let names = config.secrets.keys().cloned().collect::<Vec<_>>().join(",");
    let mut given = BTreeMap::from([(whole("secrets"), names)]);
    if config.sidecar.mode == Mode::Init {
        given.insert(whole("template.sample"), String::new());
    }
    if config.sidecar.tls == TlsSource::Files {
        given.insert(whole("tls-secret"), "sample".to_owned());
    }
    let identity =
        Identity { namespace: "sample".to_owned(), service_account: "sample".to_owned() };
    Settings::read(&given, &config.sidecar, false)
        .and_then(|settings| generated(&settings, &given, &identity, &config.secrets))
        .map(drop)
        .map_err(|all| own(all).collect())
}

/// The same for a pod that exists already: its annotations alone.
pub fn patch_annotations(pod: &Value, generated: &BTreeMap<String, String>) -> Vec<Op> {
    let mut edit = Edit::of(pod.clone());
    for (name, text) in generated {
        edit.cover(&annotation(name), &json!(text));
    }
    edit.into_ops()
}

fn warnings(pod: &Value, settings: &Settings) -> Vec<String> {
    let restart = pod.pointer("/spec/restartPolicy").and_then(Value::as_str).unwrap_or("Always");
    let never_ends = settings.sidecar.mode == Mode::Plain && restart != "Always";
    let told = format!(
        "{PREFIX}mode: a `plain` sidecar keeps a pod that should end from ending; use `native` or `init`"
    );
    never_ends.then_some(told).into_iter().collect()
}

fn annotation(name: &str) -> String {
    format!("/metadata/annotations/{}", escaped(name))
}

fn name(container: &Value) -> &str {
    container.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn is_own(name: &str) -> bool {
    matches!(name, SIDECAR | COPY)
}

struct Plan<'a> {
    edit: Edit,
    settings: &'a Settings,
    mistakes: Vec<Mistake>,
}

impl Plan<'_> {
    fn annotate(&mut self, generated: &BTreeMap<String, String>) {
        let marks = [
            (whole("status"), "injected".to_owned()),
            (whole("version"), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        let generated = generated.iter().map(|(name, text)| (name.clone(), text.clone()));
        for (name, text) in generated.chain(marks) {
            self.edit.cover(&annotation(&name), &json!(text));
        }
    }

    /// The names of containers in a list, ours aside.
    fn names(&self, list: &str) -> Vec<String> {
        let names = self.edit.list(list).iter().map(name);
        names.filter(|name| !is_own(name)).map(str::to_owned).collect()
    }

    /// Whether all containers that are named exist.
    fn named(&mut self) {
        let apps = self.names(APPS);
        let all: Vec<_> = self.names(INIT).into_iter().chain(apps.iter().cloned()).collect();
        let lists = [
            ("containers", &self.settings.containers, &all),
            ("exec-containers", &self.settings.exec_containers, &apps),
        ];
        for (place, named, present) in lists {
            for missing in named.iter().flatten().filter(|name| !present.contains(name)) {
                self.mistakes.push(Mistake {
                    place: whole(place),
                    found: format!("\"{missing}\" is no container of this pod"),
                    accepted: format!("expected one of {}", present.join(", ")),
                });
            }
        }
    }

    /// Gives each of the pod's containers what it should have; whether one was wrapped.
    fn applications(&mut self) -> bool {
        let wrapped = self.wrapped();
        let lists: &[&str] =
            if self.settings.sidecar.mode == Mode::Plain { &[APPS] } else { &[INIT, APPS] };
        for list in lists {
            for index in 0..self.edit.list(list).len() {
                let path = format!("{list}/{index}");
                let name = self.edit.at(&path).map(name).unwrap_or_default().to_owned();
                let wraps = *list == APPS && wrapped.contains(&name);
                let chosen =
                    self.settings.containers.as_ref().is_none_or(|all| all.contains(&name));
                if !is_own(&name) && (chosen || wraps) {
                    self.application(&path, &name, wraps);
                }
            }
        }
        !wrapped.is_empty()
    }

    fn application(&mut self, path: &str, name: &str, wraps: bool) {
        let mounts = self.settings.application_mounts(wraps);
        for mount in &mounts {
            let (place, volume) = (mount.get("mountPath"), mount.get("name"));
            let taken =
                self.edit.list(&format!("{path}/volumeMounts")).iter().any(|present| {
                    present.get("mountPath") == place && present.get("name") != volume
                });
            if taken {
                let place = place.and_then(Value::as_str).unwrap_or_default();
                self.mistakes.push(Mistake {
                    place: format!("container {name}"),
                    found: format!("another volume is mounted at {place}"),
                    accepted: "that path is the broker's: mount it elsewhere".to_owned(),
                });
            }
        }
        if !mounts.is_empty() {
            self.edit.cover(&format!("{path}/volumeMounts"), &Value::Array(mounts));
        }
        let env = format!("{path}/env");
        for (key, value) in self.settings.application_variables() {
            // What the pod says itself stands.
            if !self.edit.list(&env).iter().any(|present| self::name(present) == key) {
                self.edit.append(&env, variable(key, &value));
            }
        }
        let Some(container) = self.edit.at(path).filter(|_| wraps) else { return };
        match wrapped(self.settings, name, container) {
            Ok(command) => self.edit.cover_whole(&format!("{path}/command"), &command),
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    /// The containers whose command is wrapped.
    fn wrapped(&mut self) -> BTreeSet<String> {
        if self.settings.env.is_empty() {
            return BTreeSet::new();
        }
        if let Some(named) = &self.settings.exec_containers {
            return named.clone();
        }
        let chosen =
            |name: &str| self.settings.containers.as_ref().is_none_or(|all| all.contains(name));
        let apps: Vec<_> = self.edit.list(APPS).iter().filter(|app| !is_own(name(app))).collect();
        // Others may have added containers since: those that were wrapped remain the ones.
        let already: BTreeSet<_> =
            apps.iter().filter(|app| is_wrapped(app)).map(|app| name(app).to_owned()).collect();
        if !already.is_empty() {
            return already;
        }
        let apps: Vec<_> =
            apps.into_iter().map(name).filter(|name| chosen(name)).map(str::to_owned).collect();
        if apps.len() != 1 {
            self.mistakes.push(Mistake {
                place: whole("exec-containers"),
                found: format!("missing, and the pod has {} containers to wrap", apps.len()),
                accepted: format!("name those whose command is wrapped, of {}", apps.join(", ")),
            });
        }
        apps.into_iter().collect()
    }

    /// Puts our own containers in front of all others.
    fn own(&mut self, wraps: bool) {
        let list = if self.settings.sidecar.mode == Mode::Plain { APPS } else { INIT };
        self.put(list, SIDECAR, 0, &self.settings.sidecar_container());
        if wraps {
            let index = usize::from(list == INIT);
            self.put(INIT, COPY, index, &self.settings.copy_container());
        }
    }

    fn put(&mut self, list: &str, own: &str, index: usize, container: &Value) {
        match self.edit.list(list).iter().position(|present| name(present) == own) {
            Some(at) => self.edit.cover(&format!("{list}/{at}"), container),
            None => self.edit.insert(list, index, container.clone()),
        }
    }
}
