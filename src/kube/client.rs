//! The connection to the API server: reads, makes and replaces objects, and says what a refusal
//! means.
//!
//! A replacement carries the object's `resourceVersion`, so that it fails when somebody else
//! changed the object meanwhile. Bodies are read here and not by the client library, which would
//! log those that it can't parse.

use std::{pin::Pin, time::Duration};

use futures_util::future::poll_fn;
use hyper::{
    Method, Request, StatusCode,
    body::{Body as _, Bytes},
    header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER},
};
use k8s_openapi::{
    Metadata, NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Client, Config, client::Body};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{
    config::operator::kubernetes::Kubernetes,
    domain::fault::{Fault, Reason},
};

/// The longest answer: etcd holds no larger object, and base64 was undone by nobody yet.
const MAX_ANSWER: usize = 8 << 20;
/// The wait when the API server asks for one without saying how long.
const THROTTLED: Duration = Duration::from_secs(1);

/// The API server, with the operator's own rights.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    namespace: String,
    timeout: Duration,
}

/// An object that lies in a namespace.
pub(super) trait Object:
    k8s_openapi::Resource<Scope = NamespaceResourceScope>
    + Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
{
}

impl<T> Object for T where
    T: k8s_openapi::Resource<Scope = NamespaceResourceScope>
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
{
}

/// The part of a refusal that is the same for all objects and holds nothing of them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    reason: String,
}

impl Cluster {
    /// The cluster that a configuration names; the one around this pod if it names none. No call
    /// is made.
    ///
    /// # Errors
    /// When this is no pod, or the files of the configuration can't be read.
    pub fn connect(settings: &Kubernetes) -> Result<Self, Fault> {
        let mut config = match &settings.server {
            None => Config::incluster().map_err(|_| {
                let detail = "this is no pod with a service account: [kubernetes] needs server, ca_file and token_file";
                Fault::new(Reason::Unavailable, detail)
            })?,
            Some(server) => {
                let address = server.address.parse();
                let address = address.map_err(|_| unusable("kubernetes.server"))?;
                let mut config = Config::new(address);
                config.root_cert_file.clone_from(&server.ca_file);
                config.auth_info.token_file = Some(server.token_file.display().to_string());
                config
            }
        };
        if let Some(namespace) = &settings.namespace {
            config.default_namespace.clone_from(namespace);
        }
        config.connect_timeout = Some(settings.timeout);
        // What fails is tried again by whoever knows whether it may be.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config)
            .map_err(|_| unusable("kubernetes.ca_file or kubernetes.token_file"))?;
        Ok(Self { client, namespace, timeout: settings.timeout })
    }

    /// The namespace of the operator's own objects.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The object of this name; `None` when there is none.
    pub(super) async fn get<K: Object>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, Fault> {
        match self.call(Method::GET, &path::<K>(namespace, Some(name)), None::<&K>).await {
            Ok(object) => Ok(Some(object)),
            Err(fault) if fault.reason == Reason::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Makes an object.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when there is one of this name.
    pub(super) async fn create<K: Object>(&self, namespace: &str, object: &K) -> Result<K, Fault> {
        self.call(Method::POST, &path::<K>(namespace, None), Some(object)).await
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when it is not the one that was read.
    pub(super) async fn replace<K: Object>(&self, namespace: &str, object: &K) -> Result<K, Fault> {
        let name = object.metadata().name.as_deref().unwrap_or_default();
        self.call(Method::PUT, &path::<K>(namespace, Some(name)), Some(object)).await
    }

    /// Removes an object. Succeeds when there is none.
    pub(super) async fn delete<K: Object>(&self, namespace: &str, name: &str) -> Result<(), Fault> {
        let path = path::<K>(namespace, Some(name));
        match self.send(Method::DELETE, &path, Vec::new()).await {
            Err(fault) if fault.reason != Reason::NotFound => Err(fault),
            _ => Ok(()),
        }
    }

    async fn call<K: Object>(
        &self,
        method: Method,
        path: &str,
        object: Option<&K>,
    ) -> Result<K, Fault> {
        let body = match object {
            Some(object) => serde_json::to_vec(object).map_err(|_| garbled(path))?,
            None => Vec::new(),
        };
        let answer = self.send(method, path, body).await?;
        // Its error would quote what it read.
        serde_json::from_slice(&answer).map_err(|_| garbled(path))
    }

    async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Body::from(body))
            .map_err(|_| garbled(path))?;
        let answered = timeout(self.timeout, async {
            let answer = self.client.send(request).await.map_err(|error| unreached(&error))?;
            let (head, body) = answer.into_parts();
            let body = read(body).await?;
            if head.status.is_success() {
                return Ok(body);
            }
            let wait =
                head.headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.parse().ok());
            let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
            Err(refused(head.status, &refusal.reason, wait.map(Duration::from_secs)))
        });
        let late =
            || Fault::new(Reason::Timeout, "Kubernetes did not answer within kubernetes.timeout");
        let answer = answered.await.unwrap_or_else(|_| Err(late()));
        answer.map_err(|fault| match fault.reason {
            reason if reason.is_store_wide() => fault,
            _ => fault.at(&format!("{method} {path}")),
        })
    }
}

fn path<K: Object>(namespace: &str, name: Option<&str>) -> String {
    let root = if K::GROUP.is_empty() { "/api" } else { "/apis" };
    let all = format!("{root}/{}/namespaces/{namespace}/{}", K::API_VERSION, K::URL_PATH_SEGMENT);
    name.map_or(all.clone(), |name| format!("{all}/{name}"))
}

/// Reads a body of bounded length.
async fn read(mut body: Body) -> Result<Vec<u8>, Fault> {
    let broken = || Fault::new(Reason::Unavailable, "the connection to Kubernetes broke off");
    let mut whole = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let data: Bytes = match frame.map_err(|_| broken())?.into_data() {
            Ok(data) => data,
            Err(_) => continue,
        };
        if whole.len() + data.len() > MAX_ANSWER {
            return Err(Fault::new(Reason::Invalid, "an answer of Kubernetes is too long"));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

fn unusable(what: &str) -> Fault {
    Fault::new(Reason::Invalid, format!("{what} can't be used"))
}

fn garbled(path: &str) -> Fault {
    Fault::new(Reason::Invalid, "the answer is not one that Kubernetes gives").at(path)
}

/// A call that got no answer.
fn unreached(error: &kube::Error) -> Fault {
    match error {
        kube::Error::Auth(_) => {
            Fault::new(Reason::Unauthenticated, "the token for Kubernetes can't be read")
        }
        _ => Fault::new(
            Reason::Unavailable,
            "no connection to Kubernetes: check kubernetes.server and kubernetes.ca_file",
        ),
    }
}

/// What a status means. `said` is one of the words that the API server has for its reasons.
fn refused(status: StatusCode, said: &str, wait: Option<Duration>) -> Fault {
    let (reason, detail) = match status.as_u16() {
        401 => (Reason::Unauthenticated, "Kubernetes does not accept the operator's token"),
        403 => (Reason::Forbidden, "Kubernetes forbids it: check the operator's Role"),
        404 => (Reason::NotFound, "there is no such object"),
        409 => (Reason::Conflict, "somebody else wrote it meanwhile"),
        429 => (Reason::Throttled, "Kubernetes asks to slow down"),
        400..=499 => (Reason::Invalid, "Kubernetes does not accept it"),
        502..=504 => (Reason::Unavailable, "the API server does not serve"),
        _ => (Reason::Failed, "Kubernetes failed at this call"),
    };
    let is_word =
        !said.is_empty() && said.len() < 64 && said.bytes().all(|b| b.is_ascii_alphabetic());
    let fault = if is_word {
        Fault::new(reason, format!("{detail} ({said})"))
    } else {
        Fault::new(reason, detail)
    };
    if reason == Reason::Throttled { fault.retry_after(wait.unwrap_or(THROTTLED)) } else { fault }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};

    use super::*;

    #[test]
    fn objects_have_the_paths_of_their_groups() {
        assert_eq!(path::<Secret>("shop", Some("jwt")), "/api/v1/namespaces/shop/secrets/jwt");
        let lease = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
        assert_eq!(path::<Lease>("shop", None), lease);
    }

    #[test]
    fn a_refusal_tells_a_word_and_no_text() {
        let fault = refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", None);
        assert_eq!(fault.to_string(), "invalid: Kubernetes does not accept it (Invalid)");
        let fault = refused(StatusCode::CONFLICT, "data[x]: hunter2", None);
        assert_eq!(fault.to_string(), "conflict: somebody else wrote it meanwhile");
    }
}
