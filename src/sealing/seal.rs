//! Encryption: age, to the one key that also reads.

use std::io::{self, Read, Write};

use age::{Decryptor, Encryptor, Recipient};
use zeroize::Zeroizing;

use super::Key;

impl Key {
    /// Encrypts what `plain` writes, without the whole of it ever being in memory.
    ///
    /// # Errors
    /// Those of `plain`.
    pub fn seal(
        &self,
        plain: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<Vec<u8>> {
        let recipient = self.0.to_public();
        let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as &dyn Recipient))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut sealed = Vec::new();
        let mut writer = encryptor.wrap_output(&mut sealed)?;
        plain(&mut writer)?;
        writer.finish()?;
        Ok(sealed)
    }

    /// The whole plain text, or nothing: what is torn, altered or sealed for another key.
    pub fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let decryptor = Decryptor::new_buffered(sealed).ok()?;
        let mut reader = decryptor.decrypt(std::iter::once(&self.0 as &dyn age::Identity)).ok()?;
        // Larger than the plain text: the buffer is never moved, which would leave copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(sealed.len()));
        reader.read_to_end(&mut plain).ok()?;
        Some(plain)
    }
}
