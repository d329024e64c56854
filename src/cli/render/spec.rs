//! `IN:OUT[:MODE[:OWNER]]`: a template, where it goes, and who may read it.

use std::{path::PathBuf, str::FromStr};

use super::file::Access;

/// A template and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The template's file.
    pub input: PathBuf,
    /// The file to write.
    pub output: PathBuf,
    /// Who may read it.
    pub access: Access,
}

const FORM: &str = "give IN:OUT[:MODE[:UID[:GID]]], such as app.conf.j2:/run/app.conf:640:1000";

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(4, ':');
        let mut path = || parts.next().filter(|part| !part.is_empty()).map(PathBuf::from);
        let (input, output) = path().zip(path()).ok_or(FORM)?;
        if output.file_name().is_none() {
            return Err(format!("{} is no file's path; {FORM}", output.display()));
        }
        let mode = match parts.next() {
            None => 0o600,
            Some(mode) => u32::from_str_radix(mode, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .ok_or("a mode is octal, 0 to 777, such as 640")?,
        };
        let owner = parts.next().map(owner).transpose()?;
        Ok(Self { input, output, access: Access { mode, owner } })
    }
}

fn owner(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |text: &str| text.parse().map_err(|_| "an owner is UID or UID:GID, as numbers");
    Ok(match text.split_once(':') {
        None => (number(text)?, None),
        Some((uid, gid)) => (number(uid)?, Some(number(gid)?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        text.parse::<Template>().unwrap().access
    }

    #[test]
    fn mode_and_owner_may_be_left_out() {
        assert_eq!(access("a:b"), Access { mode: 0o600, owner: None });
        assert_eq!(access("a:b:0440"), Access { mode: 0o440, owner: None });
        assert_eq!(access("a:b:640:1000"), Access { mode: 0o640, owner: Some((1000, None)) });
        assert_eq!(access("a:b:640:0:7"), Access { mode: 0o640, owner: Some((0, Some(7))) });
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "a", "a:", ":b", "a:b:", "a:b:9", "a:b:1777", "a:b:600:root", "a:..", "a:/"]
        {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
