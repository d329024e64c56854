//! TLS to servers that the operator logs in to: always with the certificate and its name checked.

use std::{path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use super::{TlsError, files, provider};

/// What checks a server's certificate: by these authorities, or the system's. Files are read anew
/// by each call, so that replaced ones count at once.
///
/// # Errors
/// When the authorities can't be read.
pub fn client_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match ca {
        None => builder.with_platform_verifier().map_err(unusable)?,
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in files::certificates(path)? {
                roots.add(root).map_err(unusable)?;
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(Arc::new(builder.with_no_client_auth()))
}
