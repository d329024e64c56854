//! Configurations as text, without what is so anyway.

use toml::{Table, Value};

use super::raw;

/// The text of a whole configuration.
///
/// # Errors
/// When a value has no form in TOML, which none of ours lacks.
pub fn file(file: &raw::File) -> Result<String, toml::ser::Error> {
    let mut table = Table::try_from(file)?;
    let defaults = Table::try_from(raw::File {
        tls: Some(raw::Tls::default()),
        vault: Some(raw::Vault::default()),
        operator: Some(raw::Operator::default()),
        ..raw::File::default()
    })?;
    prune(&mut table, &defaults);
    if let Some(Value::Table(secrets)) = table.get_mut("secrets") {
        let defaults = Table::try_from(raw::Secret::default())?;
        for (_, secret) in secrets.iter_mut() {
            if let Value::Table(secret) = secret {
                prune(secret, &defaults);
            }
        }
    }
    if let Some(Value::Array(grants)) = table.get_mut("policy") {
        for grant in grants {
            if let Value::Table(grant) = grant {
                grant.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
            }
        }
    }
    toml::to_string(&table)
}

/// The text of one secret's section.
///
/// # Errors
/// As [`file`].
pub fn secret(secret: &raw::Secret) -> Result<String, toml::ser::Error> {
    let mut table = Table::try_from(secret)?;
    prune(&mut table, &Table::try_from(raw::Secret::default())?);
    toml::to_string(&table)
}

/// Takes away what equals its default, and what is empty then.
fn prune(table: &mut Table, defaults: &Table) {
    for (key, value) in table.iter_mut() {
        if let (Value::Table(value), Some(Value::Table(defaults))) = (value, defaults.get(key)) {
            prune(value, defaults);
        }
    }
    table.retain(|key, value| {
        defaults.get(key) != Some(value) && value.as_table().is_none_or(|table| !table.is_empty())
    });
}
