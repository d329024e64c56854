//! The volumes of a pod, laid out as a kubelet does: in memory or from the API server, with their modes and groups.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    kubelet::{list, text},
    support::kubernetes::Kubernetes,
};

/// The directories of a pod's volumes, by name.
pub(crate) async fn lay_out(
    kubernetes: &Kubernetes,
    namespace: &str,
    pod: &Value,
    place: &Path,
) -> BTreeMap<String, PathBuf> {
    let mut volumes = BTreeMap::new();
    for volume in list(&pod["spec"], "volumes") {
        let at = place.join(text(volume, "name"));
        fs::create_dir_all(&at).expect("a volume");
        if volume["emptyDir"].is_object() {
            let mode = if group(pod).is_some() { 0o2777 } else { 0o777 };
            chown(&at, None, group(pod)).expect("a group");
            fs::set_permissions(&at, Permissions::from_mode(mode)).expect("a mode");
        }
        annotations(pod, volume, &at);
        token(kubernetes, namespace, pod, volume, &at).await;
        if volume["secret"].is_object() {
            secret(kubernetes, namespace, pod, volume, &at).await;
        }
        volumes.insert(text(volume, "name").to_owned(), at);
    }
    volumes
}

/// The group that the pod's volumes are given to.
fn group(pod: &Value) -> Option<u32> {
    pod["spec"]["securityContext"]["fsGroup"].as_u64().and_then(|group| group.try_into().ok())
}

fn annotations(pod: &Value, volume: &Value, at: &Path) {
    for item in list(&volume["downwardAPI"], "items") {
        let field = text(&item["fieldRef"], "fieldPath");
        let annotation = field.split('\'').nth(1).expect("an annotation");
        let file = at.join(text(item, "path"));
        fs::create_dir_all(file.parent().expect("a parent")).expect("a directory");
        fs::write(file, text(&pod["metadata"]["annotations"], annotation)).expect("a file");
    }
}

async fn token(kubernetes: &Kubernetes, namespace: &str, pod: &Value, volume: &Value, at: &Path) {
    for source in list(&volume["projected"], "sources") {
        let token = &source["serviceAccountToken"];
        if token.is_object() {
            let account = text(&pod["spec"], "serviceAccountName");
            let issued = kubernetes.token(namespace, account, token["audience"].as_str()).await;
            fs::write(at.join(text(token, "path")), issued).expect("a token");
        }
    }
}

/// Puts a Secret's present content into its volume: files in a directory of their own, which a link is turned to at once.
pub(crate) async fn secret(
    kubernetes: &Kubernetes,
    namespace: &str,
    pod: &Value,
    volume: &Value,
    at: &Path,
) {
    static ROUND: AtomicU32 = AtomicU32::new(0);
    let name = text(&volume["secret"], "secretName");
    let data = kubernetes.read(&format!("/api/v1/namespaces/{namespace}/secrets/{name}")).await;
    let round = format!("..round-{}", ROUND.fetch_add(1, Ordering::Relaxed));
    fs::create_dir(at.join(&round)).expect("a directory");
    let mode = volume["secret"]["defaultMode"].as_u64().and_then(|mode| mode.try_into().ok());
    let mode: u32 = mode.expect("a mode");
    // What is for a group can be read by it.
    let mode = group(pod).map_or(mode, |_| mode | 0o440);
    for item in list(&volume["secret"], "items") {
        let (key, path) = (text(item, "key"), text(item, "path"));
        let file = at.join(&round).join(path);
        fs::write(&file, STANDARD.decode(text(&data["data"], key)).expect("base64"))
            .expect("a file");
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
        chown(&file, None, group(pod)).expect("a group");
        if !at.join(path).is_symlink() {
            symlink(Path::new("..data").join(path), at.join(path)).expect("a link");
        }
    }
    symlink(&round, at.join("..next")).expect("a link");
    fs::rename(at.join("..next"), at.join("..data")).expect("a turn");
}
