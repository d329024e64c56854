//! DER → PEM, as RFC 7468 has it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Bytes that fill a line of 64 characters.
const LINE: usize = 48;

/// The PEM text of each of the parts, one after the other. It may be a key's: it is wiped when dropped, and never grows,
/// which would leave a copy behind.
pub(super) fn encode<'a>(
    label: &str,
    parts: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
) -> Zeroizing<String> {
    let parts = parts.into_iter();
    let mut pem =
        Zeroizing::new(String::with_capacity(parts.clone().map(|der| length(label, der)).sum()));
    for der in parts {
        pem.extend(["-----BEGIN ", label, "-----\n"]);
        for line in der.chunks(LINE) {
            STANDARD.encode_string(line, &mut pem);
            pem.push('\n');
        }
        pem.extend(["-----END ", label, "-----\n"]);
    }
    pem
}

fn length(label: &str, der: &[u8]) -> usize {
    let text = der.len().div_ceil(3) * 4;
    "-----BEGIN -----\n-----END -----\n".len() + 2 * label.len() + text + der.len().div_ceil(LINE)
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};

    use super::*;

    #[test]
    fn what_is_written_is_read_back_whatever_its_length() {
        for length in [0, 1, 47, 48, 49, 1000] {
            let der: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let key = encode("PRIVATE KEY", [der.as_slice()]);
            let read = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap();
            assert_eq!(read.secret_pkcs8_der(), der);
            assert_eq!(key.len(), key.capacity(), "it did not grow");
            assert!(key.lines().all(|line| line.len() <= 64));
        }
        let both = encode("CERTIFICATE", [[1, 2].as_slice(), &[3]]);
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(both.as_bytes()).collect();
        assert_eq!(
            read.unwrap().iter().map(|der| der.to_vec()).collect::<Vec<_>>(),
            [vec![1, 2], vec![3]]
        );
    }
}
