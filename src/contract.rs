//! The operator's contract as generated code: the feed that tells of rotations and, with the feature
//! `operator`, all that people ask of it.

/// The messages and services of the operator in `secretbroker.v1`.
#[allow(missing_docs, clippy::pedantic, clippy::all, reason = "generated")]
pub mod operator {
    include!(concat!(env!("OUT_DIR"), "/operator/secretbroker.v1.rs"));

    /// The descriptors of the contract, for reflection.
    #[cfg(feature = "operator")]
    pub const DESCRIPTORS: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/operator-descriptors.bin"));
}
