//! A proxy between the broker and Vault that can misbehave, and counts the calls it sees.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Shorter than the longest time that the broker can be told to wait.
const HANG: Duration = Duration::from_secs(270);

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is passed on.
    Pass,
    /// Its connection is closed at once.
    Refuse,
    /// It is passed on after this time.
    Delay(Duration),
    /// The answer is cut after this many bytes.
    Cut(usize),
    /// It is answered with something that is no answer of Vault's.
    Garbage,
    /// Requests to paths with this prefix are answered with this status.
    Status(&'static str, u16),
    /// It is redirected to this port of the machine, as a standby does.
    Redirect(u16),
    /// Requests to paths with this prefix get no answer for minutes, and then that there is none.
    Hang(&'static str),
}

/// Where a request is held for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Vault does not see it.
    Before,
    /// Vault has done it; its caller does not learn of it.
    After,
}

struct Shared {
    upstream: u16,
    fault: Mutex<Fault>,
    seen: Mutex<Vec<(String, String)>>,
    /// How many requests that write go through before one is held.
    hold: Mutex<Option<(usize, Hold)>>,
    held: Notify,
    /// The requests under way, and the most of them so far.
    under_way: Mutex<(usize, usize)>,
}

impl Shared {
    /// Whether the request is the one to be held here.
    fn holds(&self, line: &str, place: Hold) -> bool {
        let mut hold = self.hold.lock().expect("the hold");
        let Some((left, wanted)) = hold.as_mut() else { return false };
        if *wanted != place || line.starts_with("GET ") {
            return false;
        }
        if *left > 0 {
            *left -= 1;
            return false;
        }
        *hold = None;
        self.held.notify_one();
        true
    }
}

#[derive(Clone)]
pub struct Proxy {
    shared: Arc<Shared>,
    pub port: u16,
}

impl Proxy {
    /// A proxy to a port of this machine.
    pub async fn start(upstream: u16) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let port = socket.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            upstream,
            fault: Mutex::new(Fault::Pass),
            seen: Mutex::default(),
            hold: Mutex::default(),
            held: Notify::new(),
            under_way: Mutex::default(),
        });
        let proxy = Self { shared: Arc::clone(&shared), port };
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        proxy
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The most requests that were under way at once.
    pub fn most_at_once(&self) -> usize {
        self.shared.under_way.lock().expect("the count").1
    }

    /// How requests are treated from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().expect("the fault") = fault;
    }

    /// Holds a request that writes, after `left` others went through.
    pub fn hold(&self, left: usize, place: Hold) {
        *self.shared.hold.lock().expect("the hold") = Some((left, place));
    }

    /// Resolves when the request is held.
    pub async fn held(&self) {
        self.shared.held.notified().await;
    }

    /// Holds nothing from now on.
    pub fn let_go(&self) {
        *self.shared.hold.lock().expect("the hold") = None;
    }

    /// The calls by path since the last time this was asked.
    pub fn take_calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for (line, _) in self.shared.seen.lock().expect("the calls").drain(..) {
            let path = line.split(' ').nth(1).unwrap_or_default().trim_start_matches("/v1/");
            *calls.entry(path.to_owned()).or_default() += 1;
        }
        calls
    }

    /// The heads of the requests seen since the last time calls were taken.
    pub fn heads(&self) -> Vec<String> {
        self.shared.seen.lock().expect("the calls").iter().map(|(_, head)| head.clone()).collect()
    }
}

/// Counts a request for as long as it is under way.
struct UnderWay(Arc<Shared>);

impl UnderWay {
    fn begin(shared: &Arc<Shared>) -> Self {
        let mut count = shared.under_way.lock().expect("the count");
        *count = (count.0 + 1, count.1.max(count.0 + 1));
        Self(Arc::clone(shared))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.lock().expect("the count").0 -= 1;
    }
}

/// One request a connection: the answer is asked to close it.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let Some((head, rest)) = head(&mut client).await else { return };
    let _under_way = UnderWay::begin(&shared);
    let line = head.lines().next().unwrap_or_default().to_owned();
    shared.seen.lock().expect("the calls").push((line.clone(), head.clone()));
    let fault = shared.fault.lock().expect("the fault").clone();
    let mut limit = usize::MAX;
    if shared.holds(&line, Hold::Before) {
        std::future::pending::<()>().await;
    }
    match fault {
        Fault::Refuse => return,
        Fault::Delay(time) => tokio::time::sleep(time).await,
        Fault::Cut(bytes) => limit = bytes,
        Fault::Garbage => {
            let _ = client
                .write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\nconnection: close\r\n\r\n<garbage>",
                )
                .await;
            return;
        }
        Fault::Redirect(port) => {
            let path = line.split(' ').nth(1).unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:{port}{path}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = client.write_all(answer.as_bytes()).await;
            return;
        }
        Fault::Status(prefix, status) if leads_to(&line, prefix) => {
            return refuse(&mut client, status).await;
        }
        Fault::Hang(prefix) if leads_to(&line, prefix) => {
            tokio::time::sleep(HANG).await;
            return refuse(&mut client, 404).await;
        }
        Fault::Pass | Fault::Status(..) | Fault::Hang(_) => {}
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", shared.upstream)).await else { return };
    let length = head
        .lines()
        .find_map(|l| {
            l.to_ascii_lowercase()
                .strip_prefix("content-length:")
                .map(|n| n.trim().parse().unwrap_or(0))
        })
        .unwrap_or(0_usize);
    let closing = head.trim_end().to_owned() + "\r\nconnection: close\r\n\r\n";
    if server.write_all(closing.as_bytes()).await.is_err() || server.write_all(&rest).await.is_err()
    {
        return;
    }
    let mut body = vec![0; length.saturating_sub(rest.len())];
    if client.read_exact(&mut body).await.is_err() || server.write_all(&body).await.is_err() {
        return;
    }
    let mut answer = Vec::new();
    let _ = server.read_to_end(&mut answer).await;
    if shared.holds(&line, Hold::After) {
        std::future::pending::<()>().await;
    }
    answer.truncate(limit);
    let _ = client.write_all(&answer).await;
}

fn leads_to(line: &str, prefix: &str) -> bool {
    let path = line.split(' ').nth(1).unwrap_or_default();
    path.strip_prefix("/v1/").is_some_and(|path| path.starts_with(prefix))
}

async fn refuse(client: &mut TcpStream, status: u16) {
    let body = r#"{"errors":["planted by the proxy"]}"#;
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = client.write_all(answer.as_bytes()).await;
}

async fn head(client: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Some((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        let read = client.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&chunk[..read]);
    }
}
