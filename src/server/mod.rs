//! The gRPC edge: the contract's messages, its services, and the layers around them.

mod calls;
mod connection;
mod deadline;
pub mod dispatch;
pub mod edge;
pub mod errors;
pub mod listener;
#[cfg(feature = "operator")]
pub mod operator;
mod standard;
pub mod unary;
mod watches;
pub mod wire;

/// The messages and service of `secretbroker.v1`.
#[allow(missing_docs, clippy::pedantic, clippy::all, reason = "generated")]
pub mod proto {
    tonic::include_proto!("secretbroker.v1");

    /// The descriptors of the contract, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}
