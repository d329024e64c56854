//! The small languages of annotations: lists, references to fields, names of files.

/// The longest name of a file: it ends the name of an annotation, which has 63 characters.
const MAX_FILE: usize = 50;

/// The items of a list: parted by commas or white space.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|item| !item.is_empty())
}

/// A field of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldOf {
    /// The secret's local name.
    pub secret: String,
    /// The field.
    pub field: String,
}

/// `NAME=SECRET[.FIELD]`. Among secrets whose names hold dots, the longest known one counts.
pub(super) fn binding<'k>(
    item: &str,
    known: impl Iterator<Item = &'k str>,
) -> Option<(String, Result<FieldOf, String>)> {
    let (name, from) = item.split_once('=')?;
    let candidates = known.filter_map(|secret| {
        let rest = from.strip_prefix(secret)?;
        let field = if rest.is_empty() { "value" } else { rest.strip_prefix('.')? };
        let field_of = FieldOf { secret: secret.to_owned(), field: field.to_owned() };
        (!field.is_empty()).then_some(field_of)
    });
    let best = candidates.max_by_key(|field| field.secret.len());
    Some((name.to_owned(), best.ok_or_else(|| from.to_owned())))
}

/// Whether a text can be a file's name here and the end of an annotation's.
pub(super) fn is_file(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    matches!(name.len(), 1..=MAX_FILE)
        && name.bytes().all(allowed)
        && name.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Whether a text can be a variable's name.
pub(super) fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whether a text can name an object of Kubernetes.
pub(super) fn is_object(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b);
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    matches!(name.len(), 1..=253)
        && name.bytes().all(allowed)
        && edge(name.bytes().next())
        && edge(name.bytes().last())
}

/// A quantity of Kubernetes in thousandths, such as `10m` or `128Mi`.
pub(super) fn quantity(text: &str) -> Option<u128> {
    const UNITS: [(&str, u128); 12] = [
        ("m", 1),
        ("", 1000),
        ("k", 1_000_000),
        ("M", 1_000_000_000),
        ("G", 1_000_000_000_000),
        ("T", 1_000_000_000_000_000),
        ("P", 1_000_000_000_000_000_000),
        ("Ki", 1000 << 10),
        ("Mi", 1000 << 20),
        ("Gi", 1000 << 30),
        ("Ti", 1000 << 40),
        ("Pi", 1000 << 50),
    ];
    let digits =
        text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if part.len() > 9 || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    let parse = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u128>().ok() };
    let below = 10_u128.checked_pow(u32::try_from(part.len()).ok()?)?;
    let whole = parse(whole)?.checked_mul(*scale)?;
    whole.checked_add(parse(part)?.checked_mul(*scale)?.checked_div(below)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_compared_by_value() {
        for (a, b) in
            [("1", "1000m"), ("0.1", "100m"), ("1024Mi", "1Gi"), ("1k", "1000"), (".5", "500m")]
        {
            assert_eq!(quantity(a), quantity(b), "{a} {b}");
            assert!(quantity(a).is_some(), "{a}");
        }
        for bad in ["", "x", "1 Mi", "-1", "1e3", "1.2.3", "1mi", "."] {
            assert_eq!(quantity(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_longest_known_secret_counts() {
        let known = ["db", "db.main"];
        let field = |item| binding(item, known.into_iter()).unwrap().1;
        let of =
            |secret: &str, field: &str| Ok(FieldOf { secret: secret.into(), field: field.into() });
        assert_eq!(field("A=db.main.password"), of("db.main", "password"));
        assert_eq!(field("A=db.main"), of("db.main", "value"));
        assert_eq!(field("A=db.user"), of("db", "user"));
        assert_eq!(field("A=other.user"), Err("other.user".into()));
        assert_eq!(binding("A", known.into_iter()), None);
    }
}
