//! The settings of the rotator `postgres`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Key};

/// The settings as people write them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Raw {}

/// The settings.
#[derive(Debug, PartialEq, Eq)]
pub struct Postgres {}

pub(super) fn check(_check: &mut Check<'_>, _key: &Key, _raw: Raw) -> Option<Postgres> {
    Some(Postgres {})
}
