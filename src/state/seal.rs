//! Encryption: age, to the one key that also reads.

use std::io::{self, Read, Write};

use age::{Decryptor, Encryptor, Recipient, x25519::Identity};
use zeroize::Zeroizing;

use crate::broker::state::Distrust;

/// Encrypts what `plain` writes, without the whole of it ever being in memory.
pub(super) fn seal(
    identity: &Identity,
    plain: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Vec<u8>> {
    let recipient = identity.to_public();
    let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as &dyn Recipient))
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    plain(&mut writer)?;
    writer.finish()?;
    Ok(sealed)
}

/// The whole plain text, or nothing.
pub(super) fn open(sealed: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, Distrust> {
    let decryptor = Decryptor::new_buffered(sealed).map_err(|_| Distrust::Sealed)?;
    let mut reader = decryptor
        .decrypt(std::iter::once(identity as &dyn age::Identity))
        .map_err(|_| Distrust::Sealed)?;
    // Larger than the plain text: the buffer is never moved, which would leave copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plain).map_err(|_| Distrust::Sealed)?;
    Ok(plain)
}
