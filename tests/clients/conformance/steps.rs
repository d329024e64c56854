//! Carries out the steps of a vector against one adapter and one rig.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    adapter::Adapter,
    pattern::{Names, compare, fill},
};
use crate::{control::Controlled, support::free_port, token};

/// The time in which something has to be told, or to stop working.
const SOON: Duration = Duration::from_secs(20);

/// One vector on its way.
pub struct Run<'a> {
    rig: &'a Controlled,
    adapter: Adapter,
    names: Names,
    /// The versions that watches told as new, and hooks as changes.
    versions: Vec<(String, String, u64)>,
}

impl<'a> Run<'a> {
    pub fn new(rig: &'a Controlled, adapter: Adapter) -> Self {
        let names = [
            ("ADDRESS", rig.variable("SECRET_BROKER_ADDRESS").to_owned()),
            ("CERT_DIR", rig.variable("SECRET_BROKER_CERT_DIR").to_owned()),
            ("SOCKET", rig.variable("RIG_SOCKET").to_owned()),
            ("WRONG_CERT_DIR", rig.variable("RIG_WRONG_CERT_DIR").to_owned()),
            ("NOBODY", format!("https://127.0.0.1:{}", free_port())),
        ];
        let names = names.map(|(name, value)| (name.to_owned(), json!(value))).into();
        Self { rig, adapter, names, versions: Vec::new() }
    }

    pub async fn all(&mut self, steps: &[Value]) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            let done = self.step(step).await;
            done.map_err(|error| format!("step {}, {step}: {error}", number + 1))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Value) -> Result<(), String> {
        let kinds = ["ask", "ask_all", "until", "told", "quiet", "rig", "login", "token"];
        let kind = kinds.into_iter().find(|kind| step.get(kind).is_some());
        match kind {
            Some("ask") => self.ask(std::slice::from_ref(&step["ask"]), step).await,
            Some("ask_all") => self.ask(step["ask_all"].as_array().expect("requests"), step).await,
            Some("until") => self.until(step).await,
            Some("told") => self.told(&step["told"]).await,
            Some("quiet") => self.quiet(&step["quiet"]).await,
            Some("rig") => {
                let verb = step["rig"].as_str().unwrap_or_default();
                let body = fill(step.get("body").unwrap_or(&json!({})), &self.names)?;
                let done = self.rig.order(verb, body).await;
                compare(step.get("ok").unwrap_or(&json!({})), &done, &mut self.names)
            }
            Some("login") => self.login(step).await,
            Some("token") => {
                let key = fill(&step["key"], &self.names)?;
                let mut names = self.names.clone();
                names.insert("JUST_NOW".to_owned(), json!(just_now()));
                let signed = token::sign(&fill(&step["token"], &names)?, &bytes(&key)?);
                let name = step["as"].as_str().ok_or("a token has a name")?;
                self.names.insert(name.to_owned(), json!(signed));
                Ok(())
            }
            _ => Err(format!("it is none of {kinds:?}")),
        }
    }

    /// Requests one after the other up to the first error; the last answer is compared.
    async fn ask(&mut self, requests: &[Value], step: &Value) -> Result<(), String> {
        let mut answer = Ok(Value::Null);
        let start = Instant::now();
        for request in requests {
            answer = self.adapter.ask(&fill(request, &self.names)?).await?;
            if answer.is_err() {
                break;
            }
        }
        let least = step["not_before_ms"].as_u64().map(Duration::from_millis);
        if least.is_some_and(|least| start.elapsed() < least) {
            return Err(format!("answered after {:?} already: {answer:?}", start.elapsed()));
        }
        match (answer, step.get("ok"), step.get("error")) {
            (Ok(ok), Some(pattern), _) => compare(pattern, &ok, &mut self.names),
            (Err(error), _, Some(pattern)) => compare(pattern, &error, &mut self.names),
            (Err(error), ..) => Err(format!("the error {error}")),
            (Ok(ok), _, Some(_)) => Err(format!("no error, but {ok}")),
            (Ok(_), None, None) => Ok(()),
        }
    }

    /// Asks until the answer matches.
    async fn until(&mut self, step: &Value) -> Result<(), String> {
        let deadline = Instant::now() + SOON;
        loop {
            let asked = self.ask(std::slice::from_ref(&step["until"]), step).await;
            if asked.is_ok() || Instant::now() >= deadline {
                return asked;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a line that matches, and passes over others of the same watch or handle.
    async fn told(&mut self, pattern: &Value) -> Result<(), String> {
        let (kind, id) = source(pattern)?;
        let deadline = Instant::now() + SOON;
        let mut passed = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(line) = self.adapter.told((kind, id), left).await else {
                return Err(format!("not told; passed over: {}", json!(passed)));
            };
            self.note(&line);
            // Names are bound by the line that matches as a whole.
            let mut names = self.names.clone();
            if compare(pattern, &line, &mut names).is_ok() {
                self.names = names;
                return Ok(());
            }
            passed.push(line);
        }
    }

    async fn quiet(&mut self, of: &Value) -> Result<(), String> {
        let (kind, id) = source(of)?;
        let time = Duration::from_millis(of["for_ms"].as_u64().unwrap_or(1500));
        match self.adapter.told((kind, id), time).await {
            Some(line) => Err(format!("it tells {line}")),
            None => Ok(()),
        }
    }

    fn note(&mut self, line: &Value) {
        let (of, generation) = match line["event"].as_str() {
            Some("CURRENT" | "ROTATED") => (&line["watch"], &line["generation"]),
            Some(_) => return,
            None => (&line["live"], &line["changed"]),
        };
        if let (Some(of), Some(generation)) = (of.as_str(), generation.as_u64()) {
            let name = line["name"].as_str().unwrap_or_default();
            self.versions.push((of.to_owned(), name.to_owned(), generation));
        }
    }

    /// Whether each version was told once.
    pub fn told_nothing_twice(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        match self.versions.iter().find(|version| !seen.insert(*version)) {
            Some(version) => Err(format!("told twice: {version:?}")),
            None => Ok(()),
        }
    }

    /// Whether fields log in to a server; waits until they do not, where that is asked for.
    async fn login(&self, step: &Value) -> Result<(), String> {
        let fields = fill(&step["login"], &self.names)?;
        let text = |name: &str| {
            let bytes = bytes(&fields[name])?;
            String::from_utf8(bytes).map_err(|_| format!("{name} is no text"))
        };
        let (user, password) = (text("username")?, text("password")?);
        let works = step["works"].as_bool().unwrap_or(true);
        let server = step["to"].as_str().unwrap_or_default();
        let deadline = Instant::now() + if works { Duration::ZERO } else { SOON };
        loop {
            let accepted = self.accepts(server, &user, &password).await;
            if accepted == works {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("{server} accepts {user}: {accepted}"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn accepts(&self, server: &str, user: &str, password: &str) -> bool {
        let body = json!({ "server": server, "username": user, "password": password });
        self.rig.order("login", body).await["works"] == true
    }
}

/// Half a minute ago, in seconds since 1970.
fn just_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs().saturating_sub(30)
}

/// Which watch or handle lines come from.
fn source(of: &Value) -> Result<(&str, &str), String> {
    let found = ["watch", "live"].into_iter().find_map(|kind| Some((kind, of[kind].as_str()?)));
    found.ok_or_else(|| "it names no `watch` and no `live`".to_owned())
}

fn bytes(encoded: &Value) -> Result<Vec<u8>, String> {
    let text = encoded.as_str().ok_or_else(|| format!("{encoded} is no base64"))?;
    BASE64_STANDARD.decode(text).map_err(|error| error.to_string())
}
