//! Who may do what with which secret. Nothing is allowed that no grant allows.

use super::secret::SecretName;

/// What a caller does with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Read its value.
    Get,
    /// See its metadata.
    List,
    /// Be told of its changes, values included.
    Watch,
    /// Say what became of a version.
    Report,
    /// Read metrics and the reasons of readiness; asked of the identity alone.
    Observe,
    /// See what is due, where rotations stand, and what became of earlier ones.
    #[cfg(feature = "operator")]
    View,
    /// Rotate, take up again, supply a value.
    #[cfg(feature = "operator")]
    Rotate,
    /// Go back to the last working version.
    #[cfg(feature = "operator")]
    Rollback,
    /// Replace what others may know.
    #[cfg(feature = "operator")]
    Compromise,
    /// Agree to what somebody else asked for.
    #[cfg(feature = "operator")]
    Approve,
    /// Open access in an emergency, and end it.
    #[cfg(feature = "operator")]
    BreakGlass,
    /// Use the current credentials.
    #[cfg(feature = "operator")]
    Validate,
    /// Be told of rotations, as a sidecar.
    #[cfg(feature = "operator")]
    Follow,
}

impl Verb {
    /// The name used in configuration and audit records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Report => "report",
            Self::Observe => "observe",
            #[cfg(feature = "operator")]
            Self::View => "view",
            #[cfg(feature = "operator")]
            Self::Rotate => "rotate",
            #[cfg(feature = "operator")]
            Self::Rollback => "rollback",
            #[cfg(feature = "operator")]
            Self::Compromise => "compromise",
            #[cfg(feature = "operator")]
            Self::Approve => "approve",
            #[cfg(feature = "operator")]
            Self::BreakGlass => "break_glass",
            #[cfg(feature = "operator")]
            Self::Validate => "validate",
            #[cfg(feature = "operator")]
            Self::Follow => "follow",
        }
    }
}

/// A pattern in which `*` stands for any run of characters except `/`, and `**` for any run at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// A pattern from its text; every text is one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        glob(self.0.as_bytes(), text.as_bytes())
    }

    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a star lets matching go back to: in the pattern and in the text.
type Back = Option<(usize, usize)>;

/// Greedy matching with one point of return for each kind of star, so that no pattern takes
/// longer than the product of the two lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let (mut star, mut deep): (Back, Back) = (None, None);
    loop {
        let rest = pattern.get(p..).unwrap_or_default();
        if rest.starts_with(b"**") {
            (deep, star) = (Some((p + 2, t)), None);
            p += 2;
        } else if rest.first() == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if t == text.len() && rest.is_empty() {
            return true;
        } else if t < text.len() && rest.first() == text.get(t) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((back, from)) =
            star.filter(|&(_, from)| text.get(from).is_some_and(|&b| b != b'/'))
        {
            star = Some((back, from + 1));
            (p, t) = (back, from + 1);
        } else if let Some((back, from)) = deep.filter(|&(_, from)| from < text.len()) {
            (deep, star) = (Some((back, from + 1)), None);
            (p, t) = (back, from + 1);
        } else {
            return false;
        }
    }
}

/// Lets workloads do something with secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The workloads, in the form that [`Workload`](super::workload::Workload) prints.
    pub identities: Vec<Pattern>,
    /// The secrets by name.
    pub secrets: Vec<Pattern>,
    /// The secrets by category.
    pub categories: Vec<Pattern>,
    /// What is allowed.
    pub verbs: Vec<Verb>,
}

/// All grants of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy(pub Vec<Grant>);

impl Policy {
    /// Whether some grant lets the workload that prints as `identity` observe the broker itself.
    pub fn allows_observing(&self, identity: &str) -> bool {
        self.0.iter().any(|grant| {
            grant.verbs.contains(&Verb::Observe)
                && grant.identities.iter().any(|p| p.matches(identity))
        })
    }

    /// Whether some grant lets the workload that prints as `identity` do `verb` with the secret.
    pub fn allows(&self, identity: &str, verb: Verb, secret: &SecretName, category: &str) -> bool {
        let any = |patterns: &[Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
        self.0.iter().any(|grant| {
            grant.verbs.contains(&verb)
                && any(&grant.identities, identity)
                && (any(&grant.secrets, secret.as_str()) || any(&grant.categories, category))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, matches) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "a/b", false),
            ("**", "a/b", true),
            ("db/*", "db/x", true),
            ("db/*", "db/x/y", false),
            ("spiffe://prod/ns/*/sa/api", "spiffe://prod/ns/shop/sa/api", true),
            ("spiffe://prod/ns/*/sa/api", "spiffe://prod/ns/a/b/sa/api", false),
            ("**/sa/*x", "spiffe://p/sa/a/sa/bx", true),
            ("a*b*c", "aXbYbZc", true),
            ("a**/c*d", "a/b/c/cxd", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), matches, "{pattern} ~ {text}");
        }
    }

    #[test]
    fn nothing_is_allowed_without_a_grant_for_identity_secret_and_verb()
    -> Result<(), super::super::secret::InvalidSecretName> {
        let api = "spiffe://prod/ns/shop/sa/api";
        let secret = "DB".parse()?;
        let grant = Grant {
            identities: vec![Pattern::new("spiffe://prod/ns/shop/sa/*")],
            secrets: vec![],
            categories: vec![Pattern::new("database")],
            verbs: vec![Verb::Get],
        };
        assert!(!Policy::default().allows(api, Verb::Get, &secret, "database"));
        let policy = Policy(vec![grant]);
        assert!(policy.allows(api, Verb::Get, &secret, "database"));
        assert!(!policy.allows(api, Verb::Watch, &secret, "database"));
        assert!(!policy.allows(api, Verb::Get, &secret, "application"));
        assert!(!policy.allows("dns:api", Verb::Get, &secret, "database"));
        Ok(())
    }
}
