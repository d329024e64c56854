//! Generates the contract's messages and client, without a system protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/secretbroker/v1/broker.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_server(false)
        .skip_debug([".secretbroker.v1.Secret", ".secretbroker.v1.PreviousSecret"])
        .compile_fds(descriptors)?;
    Ok(())
}
