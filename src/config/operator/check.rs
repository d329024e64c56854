//! [`raw::File`] → [`OperatorConfig`]: what one key's type can't say, and what keys say about each
//! other.

use std::{collections::BTreeMap, time::Duration};

use jiff::{
    SignedDuration,
    civil::{Time, Weekday},
    tz::TimeZone,
};

use super::{
    BreakGlassTerms, KvPlace, OperatorConfig, Rotated, alerts, checks,
    kubernetes::{self, SecretPlace},
    policy,
    raw::{self, Day, Defaults, Revoke, Secret, Tier},
    targets, validators,
};
use crate::{
    config::{check::Check, mistake::Key},
    domain::{
        rotation::{
            RevokeWhen, Terms,
            schedule::{Every, Schedule, Window},
        },
        secret::SecretName,
    },
};

/// Secrets in one configuration.
const MAX_SECRETS: usize = 10_000;
/// The tier of secrets that are rotated only when somebody asks for it.
const NEVER: &str = "never";

pub(super) fn file(check: &mut Check<'_>, file: raw::File) -> Option<OperatorConfig> {
    let tiers = tiers(check, &file.tiers);
    let has_cluster = file.kubernetes.is_some();
    let secrets = secrets(check, (&file.defaults, has_cluster), &tiers, file.secrets);
    let kubernetes = kubernetes::check(check, file.kubernetes, file.leadership);
    let by = Some("the operator".to_owned());
    let vault = check.vault(by, file.vault, false);
    let journal =
        place(check, &Key::of("journal"), Some(file.journal.mount), Some(file.journal.path));
    let http = file.telemetry.http;
    let server = match file.server {
        Some(server) => check.server(server, http).map(Some),
        None => Some(None),
    };
    let listens = server.as_ref().is_some_and(|s| s.as_ref().is_some_and(|s| s.listen.is_some()));
    let tls = check.tls(listens, file.tls);
    let audit = check.audit(file.audit);
    let telemetry = check.telemetry(file.telemetry);
    let checks = each(check, &Key::of("check"), file.check, checks::check);
    let alerts = each(check, &Key::of("alerts"), file.alerts, alerts::check);
    let policy = policy::check(check, file.policy);
    let records = check.some_path(&Key::of("records").name("directory"), file.records.directory);
    Some(OperatorConfig {
        server: server?,
        tls: tls?,
        vault: vault??,
        journal: journal?,
        kubernetes: kubernetes?,
        claim: file.engine.claim.duration(),
        step: file.engine.step.duration(),
        secrets: secrets?,
        checks: checks?,
        alerts: alerts?,
        policy,
        break_glass: file.break_glass.map(|glass| BreakGlassTerms { token_role: glass.token_role }),
        records: records?,
        audit: audit?,
        telemetry: telemetry?,
    })
}

fn tiers(check: &mut Check<'_>, given: &BTreeMap<String, Tier>) -> BTreeMap<String, Every> {
    let mut tiers: BTreeMap<_, _> = [("monthly", 1), ("quarterly", 3), ("half-yearly", 6)]
        .into_iter()
        .map(|(name, months)| (name.to_owned(), Every::Months(months)))
        .collect();
    for (name, tier) in given {
        let months = tier.months.map(|n| i8::try_from(n.small()).unwrap_or(i8::MAX));
        let days = tier.days.map(|n| u16::try_from(n.small()).unwrap_or(u16::MAX));
        match (months, days) {
            (Some(months), None) => drop(tiers.insert(name.clone(), Every::Months(months))),
            (None, Some(days)) => drop(tiers.insert(name.clone(), Every::Days(days))),
            _ => {
                let key = Key::of("tiers").name(name);
                check.wrong(key, "not a period", "expected either months or days");
            }
        }
    }
    tiers.insert(NEVER.to_owned(), Every::Never);
    tiers
}

fn secrets(
    check: &mut Check<'_>,
    (defaults, has_cluster): (&Defaults, bool),
    tiers: &BTreeMap<String, Every>,
    secrets: BTreeMap<String, Secret>,
) -> Option<BTreeMap<SecretName, Rotated>> {
    let section = Key::of("secrets");
    if secrets.is_empty() {
        check.wrong(section, "no secret", "expected at least one [secrets.NAME]");
        return None;
    }
    if secrets.len() > MAX_SECRETS {
        let found = format!("{} secrets", secrets.len());
        check.wrong(section, found, format!("expected at most {MAX_SECRETS}"));
        return None;
    }
    let names: Vec<_> = secrets.keys().cloned().collect();
    let mut checked = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (text, secret) in secrets {
        let key = section.name(&text);
        let name = text.parse::<SecretName>();
        if let Err(error) = &name {
            check.wrong(key.clone(), "not a secret's name", error.to_string());
        }
        let pair = secret.pair.clone();
        if let Some(pair) = pair.filter(|pair| *pair == text || !names.contains(pair)) {
            let accepted = "expected the name of another secret of this file";
            check.wrong(key.name("pair"), format!("no other secret `{pair}`"), accepted);
        }
        let rotated = one(check, &key, (defaults, has_cluster), tiers, secret);
        let (Some(rotated), Ok(name)) = (rotated, name) else { continue };
        let place = rotated.place.as_ref().map(|place| format!("{}/{}", place.mount, place.path));
        let of_cluster =
            |place: &SecretPlace| format!("kubernetes {}/{}", place.namespace, place.name);
        for (part, place) in [
            ("path", place),
            ("kubernetes", rotated.kubernetes.as_ref().map(of_cluster)),
            ("backup", rotated.backup.as_ref().map(of_cluster)),
        ] {
            if let Some(other) = place.and_then(|place| places.insert(place, text.clone())) {
                let found = format!("the place of `{other}`");
                check.wrong(key.name(part), found, "expected a place of its own");
            }
        }
        checked.insert(name, rotated);
    }
    Some(checked)
}

fn one(
    check: &mut Check<'_>,
    key: &Key,
    (defaults, has_cluster): (&Defaults, bool),
    tiers: &BTreeMap<String, Every>,
    mut secret: Secret,
) -> Option<Rotated> {
    let by = key.to_string();
    let category = check.text(&key.name("category"), secret.category.clone(), &by);
    let tier = check.text(&key.name("tier"), secret.tier.clone(), &by);
    let every = tier.as_ref().and_then(|tier| {
        let every = tiers.get(tier).copied();
        if every.is_none() {
            let known = tiers.keys().cloned().collect::<Vec<_>>().join(", ");
            check.wrong(key.name("tier"), "no such tier", format!("expected one of {known}"));
        }
        every
    });
    let schedule = schedule(check, key, defaults, &secret, every);
    let keeps_itself = secret.rotate.vault_database.is_some();
    let kubernetes = kubernetes::of_secret(check, key, &mut secret, has_cluster);
    let in_cluster = kubernetes.as_ref().is_none_or(|places| places.0.is_some());
    let mount = secret.mount.clone().unwrap_or_else(|| "secret".to_owned());
    let place = match (&secret.path, keeps_itself) {
        _ if in_cluster => Some(None),
        (None, true) => Some(None),
        (Some(_), true) => {
            let accepted = "leave it out: Vault's database engine keeps the value itself";
            check.wrong(key.name("path"), "a place for a value that is not stored", accepted);
            None
        }
        (path, false) => place(check, key, Some(mount), path.clone()).map(Some),
    };
    let terms = terms(check, key, defaults, &secret);
    let target = targets::check(check, &key.name("rotate"), secret.rotate);
    if let (Some(targets::Target::Jwt(jwt)), Some(terms)) = (&target, &terms) {
        let own = key.name("overlap");
        let given =
            if secret.overlap.is_some() { own } else { Key::of("defaults").name("overlap") };
        let tier = key.name("tier");
        let interval = every.and_then(shortest).map(|interval| (&tier, interval));
        targets::jwt::fits(check, jwt, (&given, terms.overlap), interval);
    }
    let validators = each(check, &key.name("validate"), secret.validate, validators::check);
    let checks = each(check, &key.name("check"), secret.check, checks::check);
    let (kubernetes, backup) = kubernetes?;
    Some(Rotated {
        category: category?,
        tier: tier?,
        schedule: schedule?,
        pair: secret.pair,
        place: place?,
        kubernetes,
        backup,
        terms: terms?,
        target: target?,
        validators: validators?,
        checks: checks?,
    })
}

/// The shortest time between two rotations.
fn shortest(every: Every) -> Option<Duration> {
    let days = match every {
        Every::Months(months) => u64::try_from(months).ok()? * 28,
        Every::Days(days) => u64::from(days),
        Every::Never => return None,
    };
    Some(Duration::from_hours(days * 24))
}

/// Completes each entry of a list.
fn each<'a, R, V>(
    check: &mut Check<'a>,
    key: &Key,
    entries: Vec<R>,
    complete: impl Fn(&mut Check<'a>, &Key, R) -> Option<V>,
) -> Option<Vec<V>> {
    let entries: Vec<_> = entries
        .into_iter()
        .enumerate()
        .map(|(i, raw)| complete(check, &key.index(i), raw))
        .collect();
    entries.into_iter().collect()
}

fn place(
    check: &mut Check<'_>,
    key: &Key,
    mount: Option<String>,
    path: Option<String>,
) -> Option<KvPlace> {
    let by = key.to_string();
    let mount = check.vault_path(&key.name("mount"), mount, &by);
    let path = check.vault_path(&key.name("path"), path, &by);
    Some(KvPlace { mount: mount?, path: path? })
}

fn terms(check: &mut Check<'_>, key: &Key, defaults: &Defaults, secret: &Secret) -> Option<Terms> {
    let environments = secret.environments.clone().unwrap_or(defaults.environments.clone());
    let canaries = secret.canaries.clone().unwrap_or(defaults.canaries.clone());
    let (overlap, settle) =
        (secret.overlap.unwrap_or(defaults.overlap), secret.settle.unwrap_or(defaults.settle));
    let is_label = |name: &String| {
        matches!(name.len(), 1..=63)
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let mut fine = true;
    for (name, labels) in [("environments", &environments), ("canaries", &canaries)] {
        if labels.iter().any(|label| !is_label(label)) {
            let accepted = "expected names of 1 to 63 of the characters A-Z a-z 0-9 _ -";
            check.wrong(key.name(name), "not a name of an environment or colour", accepted);
            fine = false;
        }
    }
    if environments.is_empty() {
        check.wrong(key.name("environments"), "no environment", "expected at least one");
        fine = false;
    }
    fine.then(|| Terms {
        environments,
        canaries,
        // The rotator knows better; the composition asks it.
        overlapping: true,
        held: false,
        soak: secret.soak.unwrap_or(defaults.soak).duration(),
        overlap: overlap.duration(),
        settle: settle.duration(),
        revoke: match secret.revoke.unwrap_or(defaults.revoke) {
            Revoke::Acknowledged => RevokeWhen::Acknowledged,
            Revoke::Overlapped => RevokeWhen::Overlapped,
        },
        approval: secret.approval,
        max_values: defaults.max_values.small(),
        max_attempts: defaults.max_attempts.small(),
        retry_min: defaults.retry_min.duration(),
        retry_max: defaults.retry_max.duration(),
    })
}

fn schedule(
    check: &mut Check<'_>,
    key: &Key,
    defaults: &Defaults,
    secret: &Secret,
    every: Option<Every>,
) -> Option<Schedule> {
    let name = secret.time_zone.as_ref().unwrap_or(&defaults.time_zone);
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        let accepted = "expected a name of the time zone database, such as \"Europe/Berlin\"";
        check.wrong(key.name("time_zone"), "no such time zone", accepted);
    }
    let window = match secret.window.as_ref().or(defaults.window.as_ref()) {
        Some(raw) => window(check, &key.name("window"), raw).map(Some),
        None => Some(None),
    };
    let spread = SignedDuration::try_from(defaults.spread.duration()).unwrap_or_default();
    Some(Schedule { every: every?, window: window?, zone: zone?, spread })
}

fn window(check: &mut Check<'_>, key: &Key, raw: &raw::Window) -> Option<Window> {
    let mut time = |name: &str, text: &str| {
        let time = Time::strptime("%H:%M", text).ok();
        if time.is_none() {
            let accepted = "expected a time of day, such as \"22:00\"";
            check.wrong(key.name(name), "not a time of day", accepted);
        }
        time
    };
    let (from, to) = (time("from", &raw.from), time("to", &raw.to));
    let days = raw.days.iter().map(|day| match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    });
    Some(Window { days: days.collect(), from: from?, to: to? })
}
