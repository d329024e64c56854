//! The rig's control over HTTP: `POST /VERB` with a JSON body, answered when it is done.
//!
//! The rig lives in a thread of its own and carries out one order after the other.

use std::{convert::Infallible, rc::Rc, thread::JoinHandle};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
    task::{LocalSet, spawn_local},
};

use crate::rig::Rig;

type Order = (String, Value, oneshot::Sender<Result<Value, String>>);

/// A running rig; it ends when this is dropped.
pub struct Controlled {
    /// The variables that a client's tests get.
    pub environment: Vec<(&'static str, String)>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Controlled {
    pub async fn start() -> Self {
        let (started, starts) = oneshot::channel();
        let (orders, taken) = mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            LocalSet::new().block_on(&runtime, live(started, taken));
            runtime.shutdown_background();
        });
        let environment = starts.await.expect("the rig starts");
        Self { environment, orders: Some(orders), thread: Some(thread) }
    }

    /// One of the variables.
    pub fn variable(&self, name: &str) -> &str {
        let found = self.environment.iter().find(|(variable, _)| *variable == name);
        &found.expect("a variable of the rig").1
    }

    /// Has an order carried out; fails the test when it can't be.
    pub async fn order(&self, verb: &str, body: Value) -> Value {
        let (answer, answered) = oneshot::channel();
        let orders = self.orders.as_ref().expect("the rig lives");
        orders.send((verb.to_owned(), body, answer)).expect("the rig lives");
        let done = answered.await.expect("an answer");
        done.unwrap_or_else(|error| panic!("{verb}: {error}"))
    }

    /// Replaces a secret, and returns the generation that is served then.
    pub async fn rotate(&self, name: &str) -> u64 {
        let answer = self.order("rotate", json!({ "name": name })).await;
        answer["generation"].as_u64().expect("a generation")
    }
}

impl Drop for Controlled {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn live(
    started: oneshot::Sender<Vec<(&'static str, String)>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let rig = Rig::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let mut environment = rig.environment();
    environment.push(("RIG_CONTROL", url));
    let rig = Rc::new(Mutex::new(rig));
    spawn_local(serve(listener, Rc::clone(&rig)));
    let _ = started.send(environment);
    while let Some((verb, body, answer)) = orders.recv().await {
        let _ = answer.send(guarded(Rc::clone(&rig), verb, body).await);
    }
}

async fn serve(listener: TcpListener, rig: Rc<Mutex<Rig>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let rig = Rc::clone(&rig);
        spawn_local(async move {
            let service = service_fn(move |request| answer(request, Rc::clone(&rig)));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    rig: Rc<Mutex<Rig>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let verb = request.uri().path().trim_start_matches('/').to_owned();
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let asked = if body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&body) };
    let done = match asked {
        Ok(asked) => guarded(rig, verb, asked).await,
        Err(error) => Err(format!("the body is no JSON: {error}")),
    };
    let (status, body) = match done {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error })),
    };
    let mut answer = Response::new(Full::from(body.to_string()));
    *answer.status_mut() = status;
    let json = hyper::header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    Ok(answer)
}

/// An order that panics is answered as well, and one whose asker went away is carried out to its end.
async fn guarded(rig: Rc<Mutex<Rig>>, verb: String, asked: Value) -> Result<Value, String> {
    let done = spawn_local(async move { carry_out(&mut *rig.lock().await, &verb, &asked).await });
    done.await.unwrap_or_else(|failed| Err(format!("the rig failed: {failed}")))
}

async fn carry_out(rig: &mut Rig, verb: &str, asked: &Value) -> Result<Value, String> {
    let name = || asked["name"].as_str().ok_or("the body has no `name`");
    match verb {
        "rotate" => return Ok(json!({ "generation": rig.rotate(name()?).await? })),
        "kill" => rig.kill(),
        "start" => rig.run().await,
        "restart" => {
            rig.kill();
            rig.run().await;
        }
        "certs" => {
            let forget = asked["forget_old"].as_bool().unwrap_or(false);
            rig.turn_certificates_over(forget).await;
        }
        "revoke-access" => rig.grant(name()?, false).await,
        "grant-access" => rig.grant(name()?, true).await,
        "drop-users" => rig.drop_users().await,
        "login" => return Ok(json!({ "works": rig.accepts(asked).await })),
        "users" => return Ok(json!({ "users": rig.postgres.leased_users().await })),
        "audit" => return Ok(json!({ "records": rig.broker.audit() })),
        other => return Err(format!("no such verb: {other}")),
    }
    Ok(json!({}))
}
