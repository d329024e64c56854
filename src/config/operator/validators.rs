//! How a new value is tried out.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    LoginSource, login,
    targets::{
        aws::{self, Aws},
        datadog::SITE,
        jwt::Algorithm,
        postgres, redis,
    },
};
use crate::{
    config::{
        Key,
        check::Check,
        units::{Count, Span, mins, secs},
    },
    domain::secret::SINGLE_FIELD,
};

/// What the addresses of Slack's webhooks begin with.
const SLACK: &str = "https://hooks.slack.com/";

type Timeout = Span<{ secs(10) }, 100, { mins(5) }>;
type Patience = Span<{ secs(30) }, { secs(1) }, { mins(15) }>;

/// One validator: exactly one kind.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// Signs a token and verifies it, and measures the key.
    pub jwt: Option<JwtRaw>,
    /// Asks AWS who the key pair belongs to.
    pub aws: Option<AwsRaw>,
    /// Encrypts and decrypts with a KMS key.
    pub kms: Option<KmsRaw>,
    /// Calls an HTTP service with the credential.
    pub http: Option<HttpRaw>,
    /// Asks Datadog whether an API key is valid.
    pub datadog: Option<DatadogRaw>,
    /// Looks at the form of a Slack webhook and reaches it without posting.
    pub slack: Option<SlackRaw>,
    /// Estimates the bits of chance in a field.
    pub entropy: Option<EntropyRaw>,
    /// Logs in to `PostgreSQL` and asks.
    pub postgres: Option<postgres::RawUse>,
    /// Logs in to Redis and asks.
    pub redis: Option<redis::RawUse>,
}

/// Signs a token and verifies it, and measures the key.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtRaw {
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// Asks AWS who the key pair belongs to.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AwsRaw {
    /// The IAM user that it has to be; any when absent.
    pub user: Option<String>,
    /// The region; `us-east-1` when absent.
    pub region: Option<String>,
    /// The address in place of AWS's own.
    pub endpoint: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Timeout,
    /// How long AWS may take to know a new key everywhere.
    pub patience: Patience,
}

/// Encrypts and decrypts with a KMS key.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KmsRaw {
    /// Who does it; ideally with the rights of the key's consumers.
    pub login: Option<login::Raw>,
    /// The region.
    pub region: Option<String>,
    /// The address in place of AWS's own.
    pub endpoint: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Timeout,
}

/// Calls an HTTP service with the credential.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpRaw {
    /// The address; one that changes nothing.
    pub url: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The method.
    pub method: HttpMethod,
    /// Where the credential goes.
    pub send: HttpSend,
    /// `header` and `query`: the name of the header or parameter.
    pub name: Option<String>,
    /// `header`: text before the credential, such as `Token `.
    pub prefix: String,
    /// The field that holds the credential; `value`, or for `basic` `password`, when absent.
    pub field: Option<String>,
    /// `basic`: the user name; the field `username` when absent.
    pub username: Option<String>,
    /// The statuses that mean that it is accepted; any from 200 to 299 when empty.
    pub status: Vec<u16>,
    /// The time for one call.
    pub timeout: Timeout,
    /// How long the service may take to know a new credential.
    pub patience: Patience,
}

/// The method of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum HttpMethod {
    /// Read.
    #[default]
    Get,
    /// Read no body.
    Head,
    /// Write nothing.
    Post,
}

/// Where a credential goes in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum HttpSend {
    /// `Authorization: Bearer`.
    #[default]
    Bearer,
    /// A header of its own.
    Header,
    /// `Authorization: Basic`.
    Basic,
    /// A parameter of the query. Addresses are logged by many servers: prefer the others.
    Query,
}

/// Asks Datadog whether an API key is valid.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DatadogRaw {
    /// The base address of the site's API; `https://api.datadoghq.com` when absent.
    pub url: Option<String>,
    /// Allow `http://` to an address that is not this machine.
    pub allow_plaintext: bool,
    /// The time for one call.
    pub timeout: Timeout,
    /// How long Datadog may take to know a new key everywhere.
    pub patience: Patience,
}

/// Looks at the form of a Slack webhook and reaches it without posting.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlackRaw {
    /// What the address begins with; `https://hooks.slack.com/` when absent.
    pub base: Option<String>,
    /// Look at the form only, where Slack can't be reached.
    pub form_only: bool,
    /// The time for one call.
    pub timeout: Timeout,
}

/// Estimates the bits of chance in a field.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EntropyRaw {
    /// The field; `value` when absent.
    pub field: Option<String>,
    /// The least bits.
    pub bits: Count<256, 64, 4096>,
}

/// One validator.
#[derive(Debug, PartialEq, Eq)]
pub enum Validator {
    /// Signs a token and verifies it, and measures the key.
    Jwt(Algorithm),
    /// Asks AWS who the key pair belongs to.
    Aws(AwsIdentity),
    /// Encrypts and decrypts with a KMS key.
    Kms(Kms),
    /// Calls an HTTP service with the credential.
    Http(Http),
    /// Asks Datadog whether an API key is valid.
    Datadog(Datadog),
    /// Looks at the form of a Slack webhook and reaches it.
    Slack(Slack),
    /// Estimates the bits of chance in a field.
    Entropy(Entropy),
    /// Logs in to `PostgreSQL` and asks.
    Postgres(postgres::Use),
    /// Logs in to Redis and asks.
    Redis(redis::Use),
}

/// Asks AWS who the key pair belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsIdentity {
    /// Where AWS is.
    pub aws: Aws,
    /// The IAM user that it has to be.
    pub user: Option<String>,
    /// How long AWS may take to know a new key everywhere.
    pub patience: Duration,
}

/// Encrypts and decrypts with a KMS key.
#[derive(Debug, PartialEq, Eq)]
pub struct Kms {
    /// Where AWS is.
    pub aws: Aws,
    /// Who does it.
    pub login: LoginSource,
}

/// Calls an HTTP service with the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address.
    pub url: String,
    /// The method.
    pub method: HttpMethod,
    /// Where the credential goes.
    pub place: HttpPlace,
    /// The field that holds it.
    pub field: String,
    /// The statuses that mean that it is accepted; any from 200 to 299 when empty.
    pub status: Vec<u16>,
    /// The time for one call.
    pub timeout: Duration,
    /// How long the service may take to know a new credential.
    pub patience: Duration,
}

/// Where a credential goes in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpPlace {
    /// A header, with text before the credential.
    Header {
        /// Its name.
        name: String,
        /// The text before.
        prefix: String,
    },
    /// `Authorization: Basic`, with this name, or the one of the field `username`.
    Basic(Option<String>),
    /// A parameter of the query.
    Query(String),
}

/// Asks Datadog whether an API key is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datadog {
    /// The base address of the API.
    pub url: String,
    /// The time for one call.
    pub timeout: Duration,
    /// How long Datadog may take to know a new key everywhere.
    pub patience: Duration,
}

/// Looks at the form of a Slack webhook and reaches it without posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slack {
    /// What the address begins with.
    pub base: String,
    /// Whether nothing is called.
    pub form_only: bool,
    /// The time for one call.
    pub timeout: Duration,
}

/// Estimates the bits of chance in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entropy {
    /// The field.
    pub field: String,
    /// The least bits.
    pub bits: u32,
}

/// Completes the one validator that is there.
pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Validator> {
    let Raw { jwt, aws, kms, http, datadog, slack, entropy, postgres, redis } = raw;
    let mut all = Vec::new();
    if let Some(JwtRaw { algorithm }) = jwt {
        all.push(Some(Validator::Jwt(algorithm)));
    }
    if let Some(raw) = aws {
        all.push(self::aws(check, &key.name("aws"), raw).map(Validator::Aws));
    }
    if let Some(raw) = kms {
        all.push(self::kms(check, &key.name("kms"), raw).map(Validator::Kms));
    }
    if let Some(raw) = http {
        all.push(self::http(check, &key.name("http"), raw).map(Validator::Http));
    }
    if let Some(raw) = datadog {
        all.push(self::datadog(check, &key.name("datadog"), raw).map(Validator::Datadog));
    }
    if let Some(SlackRaw { base, form_only, timeout }) = slack {
        let base = slack_base(check, &key.name("slack").name("base"), base);
        let timeout = timeout.duration();
        all.push(base.map(|base| Validator::Slack(Slack { base, form_only, timeout })));
    }
    if let Some(EntropyRaw { field, bits }) = entropy {
        let field = field.unwrap_or_else(|| SINGLE_FIELD.to_owned());
        all.push(Some(Validator::Entropy(Entropy { field, bits: bits.small() })));
    }
    if let Some(raw) = postgres {
        let usage = postgres::check_use(check, &key.name("postgres"), raw);
        all.push(usage.map(Validator::Postgres));
    }
    if let Some(raw) = redis {
        all.push(redis::check_use(check, &key.name("redis"), raw).map(Validator::Redis));
    }
    if all.len() != 1 {
        let found = if all.is_empty() { "missing" } else { "several validators" };
        let accepted = "expected exactly one of jwt, aws, kms, http, datadog, slack, entropy, postgres and redis";
        check.wrong(key.clone(), found, accepted);
        return None;
    }
    all.pop()?
}

fn aws(check: &mut Check<'_>, key: &Key, raw: AwsRaw) -> Option<AwsIdentity> {
    let AwsRaw { user, region, endpoint, allow_plaintext, timeout, patience } = raw;
    let given = aws::Given { region, endpoint, allow_plaintext, timeout: timeout.duration() };
    let aws = aws::check(check, key, given)?;
    Some(AwsIdentity { aws, user, patience: patience.duration() })
}

fn kms(check: &mut Check<'_>, key: &Key, raw: KmsRaw) -> Option<Kms> {
    let KmsRaw { login, region, endpoint, allow_plaintext, timeout } = raw;
    check.text(&key.name("region"), region.clone(), "the validator `kms`");
    let login = aws::login(check, key, login, "the validator `kms`");
    let given = aws::Given { region, endpoint, allow_plaintext, timeout: timeout.duration() };
    let aws = aws::check(check, key, given)?;
    Some(Kms { aws, login: login? })
}

fn http(check: &mut Check<'_>, key: &Key, raw: HttpRaw) -> Option<Http> {
    let HttpRaw { url, allow_plaintext, method, send, name, prefix, field, username, .. } = raw;
    let choice = match send {
        HttpSend::Bearer => "bearer",
        HttpSend::Header => "header",
        HttpSend::Basic => "basic",
        HttpSend::Query => "query",
    };
    let keys: [(&str, &[&str]); 3] =
        [("name", &["header", "query"]), ("prefix", &["header"]), ("username", &["basic"])];
    check.only(key, choice, &keys);
    let form = "expected https://HOST/PATH";
    let url = check.url(&key.name("url"), url, allow_plaintext, "the validator `http`", form);
    let by = format!("send = \"{choice}\"");
    let place = match send {
        HttpSend::Bearer => {
            Some(HttpPlace::Header { name: "authorization".into(), prefix: "Bearer ".into() })
        }
        HttpSend::Basic => Some(HttpPlace::Basic(username)),
        HttpSend::Query => check.text(&key.name("name"), name, &by).map(HttpPlace::Query),
        HttpSend::Header => {
            let name = check.text(&key.name("name"), name, &by).and_then(|name| {
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                if name.bytes().all(plain) {
                    return Some(name.to_ascii_lowercase());
                }
                check.wrong(key.name("name"), "not a header's name", "expected such as X-Api-Key");
                None
            });
            name.map(|name| HttpPlace::Header { name, prefix })
        }
    };
    let usual = if send == HttpSend::Basic { "password" } else { SINGLE_FIELD };
    if raw.status.iter().any(|status| !(100..600).contains(status)) {
        check.wrong(key.name("status"), "not a status", "expected numbers from 100 to 599");
        return None;
    }
    Some(Http {
        url: url?,
        method,
        place: place?,
        field: field.unwrap_or_else(|| usual.to_owned()),
        status: raw.status,
        timeout: raw.timeout.duration(),
        patience: raw.patience.duration(),
    })
}

fn datadog(check: &mut Check<'_>, key: &Key, raw: DatadogRaw) -> Option<Datadog> {
    let DatadogRaw { url, allow_plaintext, timeout, patience } = raw;
    let url = url.or_else(|| Some(SITE.to_owned()));
    let form = "expected https://api.SITE";
    let by = "the validator `datadog`";
    let url = check.url(&key.name("url"), url, allow_plaintext, by, form)?;
    Some(Datadog { url, timeout: timeout.duration(), patience: patience.duration() })
}

/// What the addresses of webhooks begin with, with a slash at its end.
pub(super) fn slack_base(check: &mut Check<'_>, key: &Key, base: Option<String>) -> Option<String> {
    let base = base.or_else(|| Some(SLACK.to_owned()));
    let form = "expected https://HOST/";
    check.url(key, base, false, "a Slack webhook", form).map(|base| format!("{base}/"))
}
