//! The certificates of the rig: of the sidecar, of the application, of a stranger, and of the rig itself.
//!
//! A turn-over has a new authority each time. Its predecessor is trusted on by the application and the sidecar; the
//! rig itself trusts the new one alone, and so sees when the sidecar uses it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rcgen::SanType;

use crate::pki::{Authority, put};

/// The application's identity.
pub const APPLICATION: &str = "spiffe://rig.test/application";
/// The rig's own identity.
pub const OPERATOR: &str = "spiffe://rig.test/operator";

pub struct Certificates {
    directory: PathBuf,
    before: Option<String>,
    now: Authority,
    stranger: Authority,
}

impl Certificates {
    /// The first certificates, in directories below this one.
    pub fn issue(directory: &Path) -> Self {
        for name in ["server-tls", "tls", "wrong-tls", "operator-tls"] {
            fs::create_dir(directory.join(name)).expect("a directory");
        }
        let issued = Self {
            directory: directory.to_owned(),
            before: None,
            now: Authority::new("the rig's authority"),
            stranger: Authority::new("another authority"),
        };
        issued.write();
        issued
    }

    /// New certificates by a new authority.
    pub fn turn_over(&mut self, forget: bool) {
        let before = std::mem::replace(&mut self.now, Authority::new("the rig's next authority"));
        self.before = (!forget).then_some(before.pem);
        self.write();
    }

    fn write(&self) {
        let to = |name: &str| self.directory.join(name);
        let trusted = format!("{}{}", self.now.pem, self.before.as_deref().unwrap_or_default());
        let client = |authority: &Authority, identity: &str| {
            authority.client_with(|params| {
                params.subject_alt_names =
                    vec![SanType::URI(identity.try_into().expect("an identity"))];
            })
        };
        // Who is trusted first, then who is shown.
        for name in ["server-tls", "tls", "wrong-tls"] {
            put(&to(name), "ca.pem", &trusted);
        }
        put(&to("operator-tls"), "ca.pem", &self.now.pem);
        client(&self.now, OPERATOR).install(&to("operator-tls"), "client");
        client(&self.now, APPLICATION).install(&to("tls"), "client");
        client(&self.stranger, APPLICATION).install(&to("wrong-tls"), "client");
        self.now.server().install(&to("server-tls"), "server");
    }
}
