//! A proxy between the broker and Vault that can misbehave, and counts the calls it sees.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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
    /// Requests to paths with this prefix get no answer for minutes, and then that there is none.
    Hang(&'static str),
}

struct Shared {
    upstream: u16,
    fault: Mutex<Fault>,
    seen: Mutex<Vec<(String, String)>>,
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
        let shared =
            Arc::new(Shared { upstream, fault: Mutex::new(Fault::Pass), seen: Mutex::default() });
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

    /// How requests are treated from now on.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().expect("the fault") = fault;
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

/// One request a connection: the answer is asked to close it.
async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let Some((head, rest)) = head(&mut client).await else { return };
    let line = head.lines().next().unwrap_or_default().to_owned();
    shared.seen.lock().expect("the calls").push((line.clone(), head.clone()));
    let fault = shared.fault.lock().expect("the fault").clone();
    let mut limit = usize::MAX;
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
