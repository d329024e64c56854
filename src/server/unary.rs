//! The shortest way of a unary reply: one buffer and the trailers.
//!
//! Stock gRPC servers copy each reply into a buffer of the call. The reply to `GetSecret` is the
//! same for all readers of a version, so its whole frame is made once, and this body hands out
//! references to it. See "Responses" and "Length-Prefixed-Message" in the gRPC over HTTP/2 protocol.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use prost::{
    Message,
    bytes::{Buf, Bytes, BytesMut},
};
use tonic::Status;

use super::{errors::Refusal, proto::ErrorReason};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const OK: HeaderValue = HeaderValue::from_static("0");
/// The bytes before a message: one says whether it is compressed, four its length.
const PREFIX: usize = 5;

/// A reply's body: a frame that is shared, or whatever a service made.
pub enum Reply {
    /// A whole frame; the trailers of success follow it.
    Frame(Option<Bytes>, bool),
    /// Any other.
    Other(tonic::body::Body),
}

impl Reply {
    /// The reply of a call that succeeded with this frame.
    pub(super) fn frame(frame: Bytes) -> Response<Self> {
        let mut response = Response::new(Self::Frame(Some(frame), false));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    /// The reply of a call that failed.
    pub(super) fn status(status: Status) -> Response<Self> {
        status.into_http().map(Self::Other)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match &mut *self {
            Self::Frame(frame, done) => {
                if let Some(frame) = frame.take() {
                    return Poll::Ready(Some(Ok(Frame::data(frame))));
                }
                if std::mem::replace(done, true) {
                    return Poll::Ready(None);
                }
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, OK);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Self::Other(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Frame(_, done) => *done,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Frame(..) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

/// Reads the one message of a unary request, of at most `limit` bytes.
///
/// # Errors
/// An invalid request: more than one message, a compressed one, one that is too large or can't be
/// decoded, or a body that ended early.
pub(super) async fn message<M: Message + Default>(
    request: Request<Incoming>,
    limit: usize,
) -> Result<M, Refusal> {
    if request.method() != hyper::Method::POST {
        return Err(Refusal::invalid("a gRPC call is a POST request"));
    }
    let mut body = request.into_body();
    let mut read: Option<Bytes> = None;
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Refusal::invalid("the request broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = read.as_ref().map_or(0, Bytes::len);
        if so_far + data.len() > limit + PREFIX {
            return Err(Refusal::new(
                ErrorReason::LimitExceeded,
                format!("a request has at most {limit} bytes (server.limits.request_bytes)"),
            ));
        }
        // Nearly every request is one frame, and then nothing is copied.
        read = Some(match read {
            None => data,
            Some(before) => {
                let mut joined = BytesMut::from(before);
                joined.extend_from_slice(&data);
                joined.freeze()
            }
        });
    }
    decode(read.unwrap_or_default())
}

fn decode<M: Message + Default>(mut frame: Bytes) -> Result<M, Refusal> {
    if frame.len() < PREFIX {
        return Err(Refusal::invalid("the request has no message"));
    }
    if frame.get_u8() != 0 {
        return Err(Refusal::invalid("compressed requests are not accepted"));
    }
    if usize::try_from(frame.get_u32()) != Ok(frame.len()) {
        return Err(Refusal::invalid("the request is not one whole message"));
    }
    M::decode(frame).map_err(|_| Refusal::invalid("the message can't be decoded"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proto::GetSecretRequest;

    fn decoded(bytes: &'static [u8]) -> Result<GetSecretRequest, Refusal> {
        decode(Bytes::from_static(bytes))
    }

    #[test]
    fn one_whole_message_is_read() {
        assert_eq!(decoded(b"\0\0\0\0\x03\x0a\x01x").map(|m| m.name), Ok("x".into()));
        assert_eq!(decoded(b"\0\0\0\0\0").map(|m| m.name), Ok(String::new()));
    }

    #[test]
    fn anything_else_is_refused() {
        let bad: [&[u8]; 6] = [
            b"",
            b"\0\0\0\0",
            b"\x01\0\0\0\x03\x0a\x01x",
            b"\0\0\0\0\x04\x0a\x01x",
            b"\0\0\0\0\x02\x0a\x01x",
            b"\0\xff\xff\xff\xff",
        ];
        for bytes in bad {
            let refused = decoded(bytes).map_err(|refusal| refusal.reason);
            assert_eq!(refused, Err(ErrorReason::InvalidRequest), "{bytes:?}");
        }
    }
}
