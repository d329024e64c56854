//! The settings of the rotator `manual`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};
use crate::{
    config::{
        operator::validators::{self, Validator},
        units::{Span, mins, secs},
    },
    domain::secret::SINGLE_FIELD,
};

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {
    /// What a person has to do to make a new value, and to revoke the old one later.
    pub instructions: Option<String>,
    /// The fields that are handed over; `value` when empty.
    pub fields: Vec<String>,
    /// The form that the value has to have.
    pub form: Form,
    /// `pattern`: a regular expression that the whole value has to match.
    pub pattern: Option<String>,
    /// `slack_webhook`: what the address begins with; `https://hooks.slack.com/` when absent.
    pub base: Option<String>,
    /// How the operator finds out whether a value is accepted: one validator. Without one, it believes the person.
    pub probe: Option<validators::Raw>,
    /// How long the target may take to know a new value everywhere.
    pub patience: Span<{ secs(30) }, { secs(1) }, { mins(15) }>,
}

/// The form of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Form {
    /// Any text that is not empty and has no line break.
    #[default]
    Text,
    /// An `https://` address.
    Url,
    /// The address of a Slack incoming webhook.
    SlackWebhook,
    /// A pattern of your own.
    Pattern,
}

/// The form of a value, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueForm {
    /// Any text that is not empty and has no line break.
    Text,
    /// An `https://` address.
    Url,
    /// The address of a Slack incoming webhook, which begins with this.
    SlackWebhook(String),
    /// A regular expression for the whole value.
    Pattern(String),
}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Manual {
    /// What a person has to do.
    pub instructions: String,
    /// The fields that are handed over.
    pub fields: Vec<String>,
    /// The form of each.
    pub form: ValueForm,
    /// How the operator finds out whether a value is accepted.
    pub probe: Option<Validator>,
    /// How long the target may take to know a new value everywhere.
    pub patience: Duration,
}

pub(super) fn check(check: &mut Check<'_>, key: &Key, raw: Raw) -> Option<Manual> {
    let Raw { instructions, fields, form, pattern, base, probe, patience } = raw;
    let choice = match form {
        Form::Text => "text",
        Form::Url => "url",
        Form::SlackWebhook => "slack_webhook",
        Form::Pattern => "pattern",
    };
    check.only(key, choice, &[("pattern", &["pattern"]), ("base", &["slack_webhook"])]);
    let instructions = check.text(&key.name("instructions"), instructions, "rotate.manual");
    let form = match form {
        Form::Text => Some(ValueForm::Text),
        Form::Url => Some(ValueForm::Url),
        Form::SlackWebhook => {
            validators::slack_base(check, &key.name("base"), base).map(ValueForm::SlackWebhook)
        }
        Form::Pattern => {
            let text = check.text(&key.name("pattern"), pattern, "form = \"pattern\"");
            text.and_then(|text| {
                let valid = regex_lite::Regex::new(&text).is_ok();
                if !valid {
                    let accepted = "expected one of the usual syntax, without look-around";
                    check.wrong(key.name("pattern"), "not a regular expression", accepted);
                }
                valid.then_some(ValueForm::Pattern(text))
            })
        }
    };
    let named = fields.iter().all(|name| !name.is_empty());
    if !named {
        check.wrong(key.name("fields"), "an empty name", "expected names of fields");
    }
    let fields = if fields.is_empty() { vec![SINGLE_FIELD.to_owned()] } else { fields };
    let probe = match probe {
        None => Some(None),
        Some(raw) => validators::check(check, &key.name("probe"), raw).map(Some),
    };
    Some(Manual {
        instructions: instructions?,
        fields: Some(fields).filter(|_| named)?,
        form: form?,
        probe: probe?,
        patience: patience.duration(),
    })
}
