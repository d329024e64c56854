//! The encoded form of a secret.
//!
//! A `Secret` message is encoded once for each version and second, and the same buffer serves all
//! readers: [`EncodedSecret`] stands in the generated code where the message would. The buffer is
//! wiped when its last reader is done.

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{
        self, DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint, skip_field,
    },
};
use zeroize::Zeroizing;

use super::{errors, proto};
use crate::{
    broker::{Kept, Snapshot, snapshot::Rendering},
    domain::{life::Held, secret::Fields, time::Moment},
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

/// The field numbers of `GetSecretResponse`, `Secret` and `PreviousSecret`.
mod tag {
    pub(super) const SECRET: u32 = 1;
    pub(super) const NAME: u32 = 1;
    pub(super) const FIELDS: u32 = 2;
    pub(super) const VERSION: u32 = 3;
    pub(super) const GENERATION: u32 = 4;
    pub(super) const ISSUE_TIME: u32 = 5;
    pub(super) const EXPIRE_TIME: u32 = 6;
    pub(super) const TIME_LEFT: u32 = 7;
    pub(super) const FRESHNESS: u32 = 8;
    pub(super) const STALE_REASON: u32 = 9;
    pub(super) const STALE_FOR: u32 = 10;
    pub(super) const PREVIOUS: u32 = 11;
    pub(super) const PREVIOUS_FIELDS: u32 = 1;
    pub(super) const PREVIOUS_VERSION: u32 = 2;
    pub(super) const PREVIOUS_GENERATION: u32 = 3;
    pub(super) const PREVIOUS_VALID_UNTIL: u32 = 4;
}

/// The state of a live secret, encoded; `None` when it has no value to serve at `now`.
pub(super) fn rendered(kept: &Kept, snapshot: &Snapshot, now: Moment) -> Option<Arc<Rendering>> {
    let held = snapshot.live(now)?;
    let second = snapshot.age(now).as_secs();
    if let Some(rendering) = &*snapshot.rendering.load()
        && rendering.second == second
    {
        return Some(Arc::clone(rendering));
    }
    let rendering = Arc::new(render(encode(kept, snapshot, held, now), second));
    snapshot.rendering.store(Some(Arc::clone(&rendering)));
    Some(rendering)
}

/// Room before a secret for what frames it as a reply: a message's prefix, a key and a length.
const HEADROOM: usize = 16;

/// Frames an encoded secret, which starts at [`HEADROOM`], as a whole `GetSecretResponse`.
fn render(mut buf: Zeroizing<Vec<u8>>, second: u64) -> Rendering {
    let secret_len = buf.len() - HEADROOM;
    let mut field = Vec::with_capacity(HEADROOM);
    encode_key(tag::SECRET, WireType::LengthDelimited, &mut field);
    encode_varint(secret_len as u64, &mut field);
    let message_len = u32::try_from(field.len() + secret_len).unwrap_or(u32::MAX);
    let mut framing = vec![0];
    framing.extend_from_slice(&message_len.to_be_bytes());
    framing.extend_from_slice(&field);
    let start = HEADROOM - framing.len();
    if let Some(room) = buf.get_mut(start..HEADROOM) {
        room.copy_from_slice(&framing);
    }
    let whole = Bytes::from_owner(buf);
    Rendering { second, secret: whole.slice(HEADROOM..), reply: whole.slice(start..) }
}

/// Room beside the values: names, times and framing. A larger message grows its buffer, whose
/// old place is then wiped by the allocator.
const ROOM: usize = 256;

fn encode(kept: &Kept, snapshot: &Snapshot, held: &Held, now: Moment) -> Zeroizing<Vec<u8>> {
    let previous = snapshot.previous(now);
    let values = fields_len(&held.fields) + previous.map_or(0, |p| fields_len(&p.held.fields));
    let mut buf = Zeroizing::new(Vec::with_capacity(HEADROOM + values + ROOM));
    let out = &mut *buf;
    out.resize(HEADROOM, 0);
    put(tag::NAME, kept.name().as_str().as_bytes(), out);
    put_fields(tag::FIELDS, &held.fields, out);
    put(tag::VERSION, held.version.0.as_bytes(), out);
    encoding::uint64::encode(tag::GENERATION, &held.generation.0, out);
    put_time(tag::ISSUE_TIME, snapshot.wall(held.issued_at), out);
    if let Some(end) = held.ends_at {
        put_time(tag::EXPIRE_TIME, snapshot.wall(end), out);
        // What is left at the end of the second that this rendering serves.
        let left = end.left(now + Duration::from_secs(1)).as_secs();
        put_duration(tag::TIME_LEFT, left, out);
    }
    let freshness = if let Some(since) = snapshot.view.stale_since {
        let reason = snapshot.view.fault.as_ref().map(|fault| errors::reason(fault.reason));
        encoding::int32::encode(tag::STALE_REASON, &(reason.unwrap_or_default() as i32), out);
        put_duration(tag::STALE_FOR, (now - since).as_secs(), out);
        proto::Freshness::Stale
    } else {
        proto::Freshness::Fresh
    };
    encoding::int32::encode(tag::FRESHNESS, &(freshness as i32), out);
    if let Some(previous) = previous {
        let mut inner = Zeroizing::new(Vec::with_capacity(values + ROOM));
        put_fields(tag::PREVIOUS_FIELDS, &previous.held.fields, &mut inner);
        put(tag::PREVIOUS_VERSION, previous.held.version.0.as_bytes(), &mut inner);
        encoding::uint64::encode(
            tag::PREVIOUS_GENERATION,
            &previous.held.generation.0,
            &mut *inner,
        );
        put_time(tag::PREVIOUS_VALID_UNTIL, snapshot.wall(previous.until), &mut inner);
        put(tag::PREVIOUS, &inner, out);
    }
    buf
}

/// A field of bytes or of text, or a message that is encoded already.
fn put(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A `map<string, bytes>`, without a copy of the values anywhere else.
fn put_fields(tag: u32, fields: &Fields, out: &mut Vec<u8>) {
    for (name, value) in fields.iter() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(entry_len(name.len(), value.expose().len()) as u64, out);
        put(1, name.as_bytes(), out);
        put(2, value.expose(), out);
    }
}

fn entry_len(name: usize, value: usize) -> usize {
    let field = |len: usize| 1 + encoded_len_varint(len as u64) + len;
    field(name) + field(value)
}

fn fields_len(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| 8 + entry_len(name.len(), value.expose().len())).sum()
}

fn put_time(tag: u32, time: Timestamp, out: &mut Vec<u8>) {
    encoding::message::encode(tag, &timestamp(time), out);
}

fn put_duration(tag: u32, secs: u64, out: &mut Vec<u8>) {
    encoding::message::encode(tag, &duration(Duration::from_secs(secs)), out);
}

/// A wall-clock time as the contract carries it.
pub(super) fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

/// A duration as the contract carries it.
pub(super) fn duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}
