//! Generates the contract's messages and services from `proto/`, without a system protoc.

use std::{error::Error, fs, path::PathBuf};

use protox::prost::Message;

const BROKER: &str = "proto/secretbroker/v1/broker.proto";
const OPERATOR: &str = "proto/secretbroker/v1/operator.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    broker(&out)?;
    operator(&out)
}

fn broker(out: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile([BROKER], ["proto"])?;
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(false)
        // Encoded once a version by the server itself; the type also hides the value from Debug.
        .extern_path(".secretbroker.v1.Secret", "crate::server::wire::EncodedSecret")
        .compile_fds(descriptors)?;
    Ok(())
}

/// Both contracts are of one package, so each has a folder of its own.
fn operator(out: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let serves = std::env::var_os("CARGO_FEATURE_OPERATOR").is_some();
    let mut descriptors = protox::compile([OPERATOR], ["proto"])?;
    fs::write(out.join("operator.bin"), descriptors.encode_to_vec())?;
    if !serves {
        // The sidecar only follows the feed.
        for file in &mut descriptors.file {
            file.service.retain(|service| service.name() == "RotationFeed");
        }
    }
    let folder = out.join("operator");
    fs::create_dir_all(&folder)?;
    tonic_prost_build::configure()
        .out_dir(folder)
        .build_server(serves)
        .build_transport(false)
        // Values: their Debug is written by hand.
        .skip_debug([".secretbroker.v1.SupplyRequest", ".secretbroker.v1.BreakGlassResponse"])
        .compile_fds(descriptors)?;
    Ok(())
}
