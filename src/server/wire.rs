//! The encoded form of a secret.
//!
//! A `Secret` message is encoded once for each second and version, and the same buffer serves all
//! readers: [`EncodedSecret`] stands in the generated code where the message would.

use std::fmt;

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{DecodeContext, WireType, skip_field},
};

/// A `secretbroker.v1.Secret` in its encoded form.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncodedSecret(pub Bytes);

impl fmt::Debug for EncodedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EncodedSecret(redacted)")
    }
}

impl Message for EncodedSecret {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    /// The server never reads one: its fields are skipped.
    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, buf, ctx)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}
