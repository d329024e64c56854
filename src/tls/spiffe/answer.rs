//! An answer of the Workload API, checked as a whole: one SVID that is broken, and none of it counts. A federated trust domain
//! that is broken is left out.

use std::collections::BTreeMap;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::wire::{X509svid, X509svidResponse};
use crate::{
    domain::workload::{self, Workload},
    identity::certificate,
    tls::{
        TlsError, provider,
        trust::{self, Certificates, RevocationLists},
    },
};

/// What a workload is given.
pub(super) struct Answer {
    pub(super) svids: Svids,
    /// The authorities of each trust domain, by the domain's name.
    pub(super) bundles: BTreeMap<String, RootCertStore>,
    pub(super) crls: RevocationLists,
}

/// At least one, in the order of the server: the first is the default.
pub(super) struct Svids(Vec<Svid>);

/// An identity with its certificate and key.
pub(super) struct Svid {
    pub(super) id: String,
    hint: String,
    /// Leaf first.
    pub(super) chain: Certificates,
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    /// The authorities of its trust domain.
    pub(super) bundle: Certificates,
}

impl Answer {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(response: X509svidResponse) -> Result<Self, TlsError> {
        let svids = response.svids.into_iter().map(Svid::read).collect::<Result<Vec<_>, _>>()?;
        if svids.is_empty() {
            return Err(broken("it holds no SVID"));
        }
        let mut bundles = BTreeMap::new();
        for svid in &svids {
            let domain = domain(&svid.id)?;
            bundles.entry(domain).or_insert(trust::roots(svid.bundle.clone())?);
        }
        for (id, bundle) in response.federated_bundles {
            match federated(&id, &bundle) {
                // Nobody else says who speaks for our own domain.
                Ok((domain, roots)) => drop(bundles.entry(domain).or_insert(roots)),
                // Nor does what others publish decide on whether we serve.
                Err(error) => tracing::warn!(%error, "a federated trust domain is left out"),
            }
        }
        let crls = response.crl.into_iter().map(CertificateRevocationListDer::from).collect();
        Ok(Self { svids: Svids(svids), bundles, crls })
    }
}

impl Svids {
    /// The SVID of this SPIFFE ID or hint; the first when none is asked for.
    ///
    /// # Errors
    /// When there is none, with those that there are.
    pub(super) fn named(&self, name: Option<&str>) -> Result<&Svid, TlsError> {
        let is_meant = |svid: &&Svid| name.is_none_or(|name| svid.id == name || svid.hint == name);
        self.0.iter().find(is_meant).ok_or_else(|| {
            let present: Vec<_> = self.0.iter().map(Svid::name).collect();
            let name = name.unwrap_or_default();
            broken(&format!("no SVID has the ID or hint `{name}`: there is {}", present.join(", ")))
        })
    }
}

impl Svid {
    fn read(svid: X509svid) -> Result<Self, TlsError> {
        let X509svid { spiffe_id: id, x509_svid, x509_svid_key, bundle, hint } = svid;
        let chain = certificates(&x509_svid, &format!("the certificate of {id}"))?;
        let peer = chain.first().map(|leaf| certificate::peer(leaf));
        match peer.transpose().map_err(|error| broken(&format!("{id}: {error}")))? {
            Some(peer) if peer.workload == Workload::Spiffe(id.clone()) => {}
            _ => return Err(broken(&format!("the certificate of {id} names another workload"))),
        }
        let bundle = certificates(&bundle, &format!("the bundle of {id}"))?;
        Ok(Self { id, hint, chain, key: PrivatePkcs8KeyDer::from(x509_svid_key), bundle })
    }

    /// Its key, if that belongs to its certificate.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn pair(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let key = || PrivateKeyDer::Pkcs8(self.key.clone_key());
        CertifiedKey::from_der(self.chain.clone(), key(), &provider())
            .map_err(|error| broken(&format!("the key of {}: {error}", self.id)))?;
        Ok(key())
    }

    fn name(&self) -> String {
        let Self { id, hint, .. } = self;
        if hint.is_empty() { id.clone() } else { format!("{id} (hint `{hint}`)") }
    }
}

/// What is wrong with an answer. It is the server's text, which goes into logs: without line ends.
fn broken(what: &str) -> TlsError {
    let what = what.replace(char::is_control, " ");
    TlsError::Issue(format!("the Workload API's answer can't be used: {what}"))
}

fn federated(id: &str, bundle: &[u8]) -> Result<(String, RootCertStore), TlsError> {
    let bundle = certificates(bundle, &format!("the bundle of {id}"))?;
    Ok((domain(id)?, trust::roots(bundle)?))
}

fn domain(id: &str) -> Result<String, TlsError> {
    let domain = workload::trust_domain(id).map(str::to_owned);
    domain.ok_or_else(|| broken(&format!("`{id}` is no SPIFFE ID")))
}

/// Certificates in DER form, one after the other; at least one.
fn certificates(mut der: &[u8], what: &str) -> Result<Certificates, TlsError> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der)
            .map_err(|_| broken(&format!("{what} is not made of X.509 certificates")))?;
        let (one, rest) = der.split_at(der.len() - rest.len());
        all.push(CertificateDer::from(one.to_vec()));
        der = rest;
    }
    if all.is_empty() { Err(broken(&format!("{what} is missing"))) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    const ID: &str = "spiffe://one/api";

    /// A certificate that vouches for itself.
    fn certificate(id: &str) -> (Vec<u8>, Vec<u8>) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().to_vec(), key.serialize_der())
    }

    fn svid(id: &str, hint: &str) -> X509svid {
        let (x509_svid, x509_svid_key) = certificate(id);
        let bundle = [certificate(id).0, certificate(id).0].concat();
        X509svid { spiffe_id: id.into(), x509_svid, x509_svid_key, bundle, hint: hint.into() }
    }

    fn of(svids: Vec<X509svid>) -> X509svidResponse {
        X509svidResponse { svids, ..X509svidResponse::default() }
    }

    fn refused(response: X509svidResponse) -> String {
        Answer::read(response).err().expect("it is refused").to_string()
    }

    #[test]
    fn certificates_that_follow_each_other_are_told_apart() {
        let answer = Answer::read(of(vec![svid(ID, "")])).unwrap();
        assert_eq!(answer.bundles["one"].len(), 2);
        assert_eq!(answer.svids.named(None).unwrap().chain.len(), 1);
    }

    #[test]
    fn an_svid_is_found_by_its_place_its_id_and_its_hint() {
        let both = of(vec![svid(ID, "internal"), svid("spiffe://two/api", "external")]);
        let answer = Answer::read(both).unwrap();
        for (name, id) in [
            (None, ID),
            (Some("spiffe://two/api"), "spiffe://two/api"),
            (Some("external"), "spiffe://two/api"),
            (Some("internal"), ID),
        ] {
            assert_eq!(answer.svids.named(name).unwrap().id, id, "{name:?}");
        }
        let error = answer.svids.named(Some("other")).err().unwrap().to_string();
        assert!(
            error.contains("`other`") && error.contains("two/api (hint `external`)"),
            "{error}"
        );
    }

    #[test]
    fn nothing_of_a_broken_answer_counts() {
        assert!(refused(of(Vec::new())).contains("no SVID"));
        let broken = |change: fn(&mut X509svid)| {
            let mut second = svid("spiffe://two/api", "");
            change(&mut second);
            refused(of(vec![svid(ID, ""), second]))
        };
        for (change, why) in [
            ((|svid| svid.spiffe_id = "spiffe://one/other".into()) as fn(&mut X509svid), "another"),
            (|svid| svid.x509_svid.clear(), "the certificate of spiffe://two/api is missing"),
            (|svid| svid.bundle.clear(), "the bundle of spiffe://two/api is missing"),
            (|svid| svid.bundle.push(0), "not made of X.509"),
            (|svid| svid.x509_svid = vec![1, 2, 3], "not made of X.509"),
            (|svid| svid.spiffe_id = "spiffe://two\nforged".into(), "spiffe://two forged"),
        ] {
            let told = broken(change);
            assert!(told.contains(why) && !told.contains('\n'), "{told}");
        }
    }

    #[test]
    fn nobody_else_speaks_for_the_domain_of_an_svid() {
        let mut response = of(vec![svid(ID, "")]);
        response.federated_bundles.insert("spiffe://one".into(), certificate(ID).0);
        response.federated_bundles.insert("spiffe://two".into(), certificate(ID).0);
        let answer = Answer::read(response).unwrap();
        assert_eq!(answer.bundles["one"].len(), 2, "its own bundle, and not the other's of one");
        assert_eq!(answer.bundles["two"].len(), 1);
    }

    #[test]
    fn what_a_foreign_domain_publishes_does_not_decide_on_our_own_svid() {
        let mut response = of(vec![svid(ID, "")]);
        response.federated_bundles.insert("spiffe://two".into(), Vec::new());
        response.federated_bundles.insert("spiffe://three".into(), vec![0x30, 0x00]);
        response.federated_bundles.insert("no id".into(), certificate(ID).0);
        response.federated_bundles.insert("spiffe://four".into(), certificate(ID).0);
        let answer = Answer::read(response).unwrap();
        assert_eq!(answer.bundles.keys().collect::<Vec<_>>(), ["four", "one"]);
    }
}
