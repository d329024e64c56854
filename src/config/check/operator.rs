//! What the sidecar is part of, and the operator that tells it of rotations.

use secret_broker_client::Address;

use super::{Check, Key, raw};
use crate::config::{Deployment, OperatorFeed};

/// The longest name of an environment or a colour.
const MAX_NAME: usize = 63;

impl Check<'_> {
    pub(super) fn deployment(&mut self, deployment: raw::Deployment) -> Option<Deployment> {
        let key = Key::of("deployment");
        let raw::Deployment { environment, colour } = deployment;
        if colour.is_some() {
            self.need(&key.name("environment"), environment.as_ref(), "deployment.colour");
        }
        let environment = self.part(&key.name("environment"), environment);
        let colour = self.part(&key.name("colour"), colour);
        Some(Deployment { environment: environment?, colour: colour? })
    }

    /// A name that stands as one part of a label's.
    fn part(&mut self, key: &Key, name: Option<String>) -> Option<Option<String>> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let is_part =
            |name: &String| matches!(name.len(), 1..=MAX_NAME) && name.bytes().all(allowed);
        if name.as_ref().is_some_and(|name| !is_part(name)) {
            let accepted = "expected 1 to 63 of the characters A-Z a-z 0-9 _ -";
            self.wrong(key.clone(), "not a name of this kind", accepted);
            return None;
        }
        Some(name)
    }

    pub(super) fn operator(
        &mut self,
        operator: Option<raw::Operator>,
    ) -> Option<Option<OperatorFeed>> {
        let Some(operator) = operator else { return Some(None) };
        let key = Key::of("operator");
        let raw::Operator { address, server_name, cert_dir, ca, cert, key: private } = operator;
        let address = self.operator_address(&key.name("address"), address);
        let server_name = self.host_name(&key.name("server_name"), server_name);
        let files = if let Some(directory) = cert_dir {
            for (name, file) in [("ca", &ca), ("cert", &cert), ("key", &private)] {
                if file.is_some() {
                    let accepted = "expected either cert_dir, or ca, cert and key";
                    self.wrong(key.name(name), "given beside cert_dir", accepted);
                }
            }
            let directory = self.path(&key.name("cert_dir"), Some(directory), "[operator]");
            directory.map(|directory| {
                ["ca.pem", "client.pem", "client.key"].map(|name| directory.join(name))
            })
        } else {
            let by = "[operator], or cert_dir in their place";
            let ca = self.path(&key.name("ca"), ca, by);
            let cert = self.path(&key.name("cert"), cert, by);
            let private = self.path(&key.name("key"), private, by);
            ca.zip(cert).zip(private).map(|((ca, cert), private)| [ca, cert, private])
        };
        let [ca, cert, private] = files?;
        let (address, server_name) = (address?, server_name?);
        Some(Some(OperatorFeed { address, server_name, ca, cert, key: private }))
    }

    fn operator_address(&mut self, key: &Key, address: Option<String>) -> Option<String> {
        let address = self.need(key, address, "[operator]")?;
        if !matches!(address.parse(), Ok(Address::Tls { .. })) {
            self.wrong(key.clone(), "not an address", "expected https://HOST:PORT");
            return None;
        }
        Some(address)
    }

    fn host_name(&mut self, key: &Key, name: Option<String>) -> Option<Option<String>> {
        let is_name =
            |name: &String| rustls::pki_types::ServerName::try_from(name.as_str()).is_ok();
        if name.as_ref().is_some_and(|name| !is_name(name)) {
            self.wrong(key.clone(), "not a host's name", "expected a DNS name or an IP address");
            return None;
        }
        Some(name)
    }
}
