//! A client's adapter: a program that answers JSON lines, and tells of events by lines of its own.

use std::{
    collections::VecDeque,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::Notify,
    time::timeout,
};

/// The time for an answer; the first one waits for the adapter to be built.
const ANSWER: Duration = Duration::from_mins(1);
const FIRST_ANSWER: Duration = Duration::from_mins(10);

pub struct Adapter {
    _child: Child,
    input: ChildStdin,
    heard: Arc<Heard>,
    asked: u64,
}

/// The lines that have come.
#[derive(Default)]
struct Heard {
    lines: Mutex<Lines>,
    more: Notify,
}

#[derive(Default)]
struct Lines {
    answers: VecDeque<Value>,
    told: VecDeque<Value>,
    ended: bool,
}

impl Adapter {
    pub fn start(script: &Path, environment: &[(&'static str, String)]) -> Self {
        let mut child = Command::new("bash")
            .arg(script)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the adapter starts");
        let input = child.stdin.take().expect("its input");
        let output = child.stdout.take().expect("its output");
        let heard = Arc::new(Heard::default());
        tokio::spawn(listen(output, Arc::clone(&heard)));
        Self { _child: child, input, heard, asked: 0 }
    }

    /// One request, and its answer: `ok` or `error`.
    pub async fn ask(&mut self, request: &Value) -> Result<Result<Value, Value>, String> {
        self.asked += 1;
        let mut request = request.clone();
        request["id"] = json!(self.asked);
        let line = format!("{request}\n");
        self.input.write_all(line.as_bytes()).await.map_err(|_| "the adapter ended".to_owned())?;
        let patience = if self.asked == 1 { FIRST_ANSWER } else { ANSWER };
        let id = self.asked;
        let answer = self.heard.find(patience, |lines| {
            let place = lines.answers.iter().position(|answer| answer["id"] == json!(id));
            place.and_then(|place| lines.answers.remove(place))
        });
        let answer = answer.await.ok_or_else(|| format!("no answer to {request}"))?;
        match (answer.get("ok"), answer.get("error")) {
            (Some(ok), None) => Ok(Ok(ok.clone())),
            (None, Some(error)) => Ok(Err(error.clone())),
            _ => Err(format!("neither `ok` nor `error`, or both: {answer}")),
        }
    }

    /// The next line of a watch or a live handle, such as `("watch", "w1")`.
    pub async fn told(&self, of: (&str, &str), within: Duration) -> Option<Value> {
        let (kind, id) = of;
        let next = self.heard.find(within, |lines| {
            let place = lines.told.iter().position(|told| told[kind] == id);
            place.and_then(|place| lines.told.remove(place))
        });
        next.await
    }
}

impl Heard {
    async fn find(
        &self,
        within: Duration,
        mut find: impl FnMut(&mut Lines) -> Option<Value>,
    ) -> Option<Value> {
        let found = async {
            loop {
                let more = self.more.notified();
                {
                    let mut lines = self.lines.lock().expect("the lines");
                    let found = find(&mut lines);
                    if found.is_some() || lines.ended {
                        return found;
                    }
                }
                more.await;
            }
        };
        timeout(within, found).await.ok().flatten()
    }
}

async fn listen(output: tokio::process::ChildStdout, heard: Arc<Heard>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(line) = serde_json::from_str::<Value>(&line) else {
            println!("  the adapter wrote what is no JSON: {line}");
            continue;
        };
        let mut all = heard.lines.lock().expect("the lines");
        if line.get("id").is_some() {
            all.answers.push_back(line);
        } else {
            all.told.push_back(line);
        }
        drop(all);
        heard.more.notify_waiters();
    }
    heard.lines.lock().expect("the lines").ended = true;
    heard.more.notify_waiters();
}
