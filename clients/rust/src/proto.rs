//! The messages and stubs of `secretbroker.v1`, as generated.
//!
//! Messages that hold values print without them.

#![allow(missing_docs, clippy::pedantic, clippy::all, unreachable_pub, reason = "generated")]

use std::fmt;

tonic::include_proto!("secretbroker.v1");

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PreviousSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreviousSecret")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}
