//! Generates the contract's messages and server from `proto/`, without a system protoc.

use std::{error::Error, path::PathBuf};

const PROTO: &str = "proto/secretbroker/v1/broker.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(
        out.join("descriptors.bin"),
        protox::prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        .build_client(false)
        // Encoded once a version by the server itself; the type also hides the value from Debug.
        .extern_path(".secretbroker.v1.Secret", "crate::server::wire::EncodedSecret")
        .compile_fds(descriptors)?;
    Ok(())
}
