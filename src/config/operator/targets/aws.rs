//! How AWS is reached: what its rotators and validators have in common.

use std::time::Duration;

use super::{Check, Key};
use crate::config::operator::{LoginSource, login};

/// The region of services that have one for all.
const GLOBAL_REGION: &str = "us-east-1";

/// Where calls to AWS go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// The region, such as `eu-central-1`.
    pub region: String,
    /// The address in place of AWS's own.
    pub endpoint: Option<String>,
    /// The time for one call.
    pub timeout: Duration,
}

/// The settings that people write for it.
pub(in crate::config::operator) struct Given {
    pub(in crate::config::operator) region: Option<String>,
    pub(in crate::config::operator) endpoint: Option<String>,
    pub(in crate::config::operator) allow_plaintext: bool,
    pub(in crate::config::operator) timeout: Duration,
}

pub(in crate::config::operator) fn check(
    check: &mut Check<'_>,
    key: &Key,
    given: Given,
) -> Option<Aws> {
    let Given { region, endpoint, allow_plaintext, timeout } = given;
    let region = region.unwrap_or_else(|| GLOBAL_REGION.to_owned());
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let is_region = matches!(region.len(), 1..=32) && region.bytes().all(plain);
    if !is_region {
        let accepted = "expected a region such as \"eu-central-1\"";
        check.wrong(key.name("region"), "not a region", accepted);
    }
    let endpoint = match endpoint {
        None => Some(None),
        some => check
            .url(&key.name("endpoint"), some, allow_plaintext, "AWS", "expected https://HOST:PORT")
            .map(Some),
    };
    Some(Aws { region, endpoint: endpoint?, timeout }).filter(|_| is_region)
}

/// The login of the operator at AWS: as the fields of Vault's engine `aws`, or a key's id and its file.
pub(in crate::config::operator) fn login(
    check: &mut Check<'_>,
    key: &Key,
    raw: Option<login::Raw>,
    by: &str,
) -> Option<LoginSource> {
    let key = key.name("login");
    let source = login::check(check, &key, raw, by)?;
    if let LoginSource::Given { username: None, .. } = source {
        let accepted = "expected the access key's id, beside the file of its secret";
        check.wrong(key.name("username"), "missing", accepted);
        return None;
    }
    Some(source)
}
