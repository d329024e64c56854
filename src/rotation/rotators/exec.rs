//! A command of one's own: one run for each step, JSON on standard input and output.
//!
//! Values go to the command by standard input alone. Its standard error is dropped, and from what
//! it says on standard output each value that the operator knows is taken out. docs/rotators.md is
//! the reference of the exchange.

use std::{borrow::Cow, collections::BTreeMap, process::Stdio, sync::Arc, time::Duration};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use crate::{
    config::operator::targets::exec::Exec as Settings,
    domain::{
        fault::{Fault, Reason},
        secret::{Fields, SecretName, SecretValue},
    },
    rotation::ports::{
        Change, Evidence, Generated, Login, Revocation, Rotator, Severity, TargetError,
    },
};

/// The version of the exchange.
const PROTOCOL: u32 = 1;
/// The target does not accept the value.
const EXIT_REFUSED: i32 = 10;
/// It fails until somebody changes something.
const EXIT_LASTING: i32 = 11;
/// The longest text of a command that is shown, in characters.
const LONGEST_TEXT: usize = 500;
/// What the command gets of the operator's own variables.
const VARIABLES: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Values shorter than this are part of too many words to be taken out of a text.
const SHORTEST_VALUE: usize = 4;

/// A command of one's own.
pub struct Exec {
    settings: Settings,
    secret: SecretName,
    environment: Vec<(String, String)>,
    login: Option<Arc<dyn Login>>,
}

/// What a command answers.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Answer {
    fields: BTreeMap<String, Text>,
    facts: BTreeMap<String, String>,
    hand_over: String,
    evidence: String,
    message: String,
    wait_secs: Option<u64>,
}

/// A text that may be a value.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text(Zeroizing<String>);

impl Exec {
    /// By these settings, for this secret; `login` is what they name, if they do, and `variable`
    /// reads one of the operator's own variables.
    pub fn new(
        settings: Settings,
        secret: SecretName,
        login: Option<Arc<dyn Login>>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let own = VARIABLES.into_iter().filter_map(|name| Some((name.to_owned(), variable(name)?)));
        let environment = own.chain(settings.environment.clone()).collect();
        Self { settings, secret, environment, login }
    }

    /// Runs one step. `known` are the values that must not come back in a text.
    async fn run(
        &self,
        step: &'static str,
        mut input: Map<String, Value>,
        known: &[&Fields],
    ) -> Result<Answer, TargetError> {
        input.insert("protocol".into(), PROTOCOL.into());
        input.insert("step".into(), step.into());
        input.insert("secret".into(), self.secret.as_str().into());
        let login = match &self.login {
            Some(login) => Some(login.fields().await?),
            None => None,
        };
        input.insert("login".into(), object(login.as_deref())?);
        let input = Zeroizing::new(serde_json::to_vec(&input).unwrap_or_default());
        let (code, output) = self.exchange(step, &input).await?;
        let answer = serde_json::from_slice::<Answer>(&output);
        let made = answer.as_ref().map(|answer| values(&answer.fields)).unwrap_or_default();
        let known = known.iter().copied().chain(login.as_deref()).chain([&made]);
        let known = known.collect::<Vec<_>>();
        let said = answer.as_ref().map(|answer| scrubbed(&answer.message, &known));
        let said = said.ok().filter(|said| !said.is_empty());
        let told = |what: String| match &said {
            Some(said) => format!("{what}: {said}"),
            None => what,
        };
        match code {
            Some(0) => match answer {
                Ok(answer) => Ok(Answer { evidence: scrubbed(&answer.evidence, &known), ..answer }),
                Err(_) => Err(failed(
                    step,
                    Reason::Invalid,
                    "answered something else than JSON of the form that is asked for",
                )),
            },
            Some(EXIT_REFUSED) => Err(TargetError::refused(told(format!("the step {step}")))),
            Some(EXIT_LASTING) => Err(failed(step, Reason::Invalid, told("gave up".to_owned()))),
            Some(code) => {
                let what = told(format!("ended with status {code}"));
                Err(failed(step, Reason::Failed, what))
            }
            None => Err(failed(step, Reason::Failed, "was killed by a signal")),
        }
    }

    /// Gives a command its input and reads its output, both within the step's time.
    async fn exchange(
        &self,
        step: &str,
        input: &[u8],
    ) -> Result<(Option<i32>, Zeroizing<Vec<u8>>), TargetError> {
        let mut command = Command::new(&self.settings.program);
        command
            .args(&self.settings.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let child =
            command.spawn().map_err(|_| failed(step, Reason::Invalid, "can't be started"))?;
        let mut group = Group(child);
        let most = self.settings.answer_bytes;
        let run = async {
            let (stdin, stdout) = (group.0.stdin.take(), group.0.stdout.take());
            let write = async {
                if let Some(mut stdin) = stdin {
                    // One that does not read its input is judged by its answer.
                    let _ = stdin.write_all(input).await;
                }
            };
            let read = async {
                let mut output = Zeroizing::new(Vec::new());
                if let Some(stdout) = stdout {
                    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
                    stdout.take(limit).read_to_end(&mut output).await?;
                }
                Ok::<_, std::io::Error>(output)
            };
            let ((), output) = tokio::join!(write, read);
            let output = output?;
            if output.len() > most {
                return Ok(None);
            }
            Ok::<_, std::io::Error>(Some((group.0.wait().await?.code(), output)))
        };
        match timeout(self.settings.timeout, run).await {
            Ok(Ok(Some(done))) => Ok(done),
            Ok(Ok(None)) => Err(failed(step, Reason::Invalid, "answered too much")),
            Ok(Err(_)) => Err(failed(step, Reason::Failed, "broke off")),
            Err(_) => Err(failed(step, Reason::Timeout, "took too long and was killed")),
        }
    }

    async fn create(
        &self,
        current: Option<&Fields>,
        compromised: bool,
    ) -> Result<Generated, TargetError> {
        let mut input = Map::new();
        input.insert("current".into(), object(current)?);
        input.insert("compromised".into(), compromised.into());
        let known = current.into_iter().collect::<Vec<_>>();
        let answer = self.run("create", input, &known).await?;
        if !answer.hand_over.is_empty() {
            return Ok(Generated::HandOver(scrubbed(&answer.hand_over, &known)));
        }
        let fields = values(&answer.fields);
        if fields.is_empty() || fields.iter().any(|(_, value)| value.expose().is_empty()) {
            return Err(failed("create", Reason::Invalid, "made no value"));
        }
        let shows = |text: &String| scrubbed(text, &[&fields]) != scrubbed(text, &[]);
        if answer.facts.values().any(shows) {
            return Err(failed("create", Reason::Invalid, "put a value among the facts"));
        }
        Ok(Generated::Value { fields, facts: answer.facts })
    }

    async fn test(&self, value: &Fields) -> Result<Evidence, TargetError> {
        let mut input = Map::new();
        input.insert("pending".into(), object(Some(value))?);
        Ok(self.run("test", input, &[value]).await?.evidence)
    }
}

fn failed(step: &str, reason: Reason, what: impl Into<Cow<'static, str>>) -> TargetError {
    let what: Cow<'static, str> = what.into();
    Fault::new(reason, format!("the command in step {step} {what}")).into()
}

/// A child and all that it started, which end with it.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // Known while the child is not reaped, so that no other group is meant.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

fn values(fields: &BTreeMap<String, Text>) -> Fields {
    let value = |text: &Text| SecretValue::new(text.0.as_bytes());
    fields.iter().map(|(name, text)| (name.clone(), value(text))).collect()
}

/// Fields as JSON; null when there are none.
fn object(fields: Option<&Fields>) -> Result<Value, TargetError> {
    let Some(fields) = fields else { return Ok(Value::Null) };
    let mut object = Map::new();
    for (name, value) in fields.iter() {
        let text = std::str::from_utf8(value.expose()).map_err(|_| {
            TargetError::fault(Reason::Invalid, "a command takes values that are text only")
        })?;
        object.insert(name.to_owned(), text.into());
    }
    Ok(Value::Object(object))
}

/// A text for people, without values and control characters, and not too long.
fn scrubbed(text: &str, known: &[&Fields]) -> String {
    let mut text = text.to_owned();
    for (_, value) in known.iter().flat_map(|fields| fields.iter()) {
        if let Ok(value) = std::str::from_utf8(value.expose())
            && value.len() >= SHORTEST_VALUE
        {
            text = text.replace(value, "[redacted]");
        }
    }
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(LONGEST_TEXT).collect::<String>().trim().to_owned()
}

#[async_trait]
impl Rotator for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn is_overlapping(&self) -> bool {
        !self.settings.single
    }

    async fn generate(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        self.create(current, false).await
    }

    async fn generate_afresh(&self, current: Option<&Fields>) -> Result<Generated, TargetError> {
        self.create(current, true).await
    }

    async fn inspect(&self, supplied: &Fields) -> Result<(), TargetError> {
        self.test(supplied).await.map(drop)
    }

    async fn apply(&self, change: &Change<'_>) -> Result<Evidence, TargetError> {
        let mut input = Map::new();
        input.insert("current".into(), object(change.current)?);
        input.insert("pending".into(), object(Some(change.new))?);
        input.insert("facts".into(), json!(change.facts));
        let known = change.current.into_iter().chain([change.new]).collect::<Vec<_>>();
        Ok(self.run("set", input, &known).await?.evidence)
    }

    async fn prove(&self, value: &Fields) -> Result<Evidence, TargetError> {
        self.test(value).await
    }

    async fn revoke(
        &self,
        old: &Fields,
        kept: Option<&Fields>,
        severity: Severity,
    ) -> Result<Revocation, TargetError> {
        let mut input = Map::new();
        input.insert("previous".into(), object(Some(old))?);
        input.insert("current".into(), object(kept)?);
        input.insert("part".into(), severity.part.into());
        input.insert("compromised".into(), severity.compromised.into());
        let known = kept.into_iter().chain([old]).collect::<Vec<_>>();
        let Answer { evidence, wait_secs, .. } = self.run("finish", input, &known).await?;
        Ok(match wait_secs {
            Some(secs) => Revocation::Continue { evidence, wait: Duration::from_secs(secs) },
            None => Revocation::Done(evidence),
        })
    }

    fn breaks(&self) -> Cow<'static, str> {
        let usual = "every consumer fails until it has the new value";
        self.settings.breaks.clone().map_or(usual.into(), Cow::Owned)
    }
}
