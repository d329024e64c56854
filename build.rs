//! Generates the contracts' messages and services from `proto/`, without a system protoc.
//!
//! Of the operator's contract the sidecar is given the client of its feed; all the rest is behind the
//! feature `operator`.

use std::{
    error::Error,
    path::{Path, PathBuf},
};

use protox::prost::Message;

const BROKER: &str = "proto/secretbroker/v1/broker.proto";
const OPERATOR: &str = "proto/secretbroker/v1/operator.proto";
/// What others publish, and the sidecar calls.
const WORKLOAD: &str = "src/tls/spiffe/workload.proto";
/// The service of the operator that sidecars call.
const FEED: &str = "RotationFeed";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed={WORKLOAD}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let descriptors = protox::compile([BROKER], ["proto"])?;
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .build_client(false)
        // Encoded once a version by the server itself; the type also hides the value from Debug.
        .extern_path(".secretbroker.v1.Secret", "crate::server::wire::EncodedSecret")
        .compile_fds(descriptors)?;

    let whole = std::env::var_os("CARGO_FEATURE_OPERATOR").is_some();
    let mut descriptors = protox::compile([OPERATOR], ["proto"])?;
    if whole {
        std::fs::write(out.join("operator-descriptors.bin"), descriptors.encode_to_vec())?;
    } else {
        for file in descriptors.file.iter_mut().filter(|file| !file.service.is_empty()) {
            file.service.retain(|service| service.name() == FEED);
            let methods = file.service.iter().flat_map(|service| &service.method);
            let types =
                methods.flat_map(|m| [m.input_type().to_owned(), m.output_type().to_owned()]);
            let package = format!(".{}.", file.package());
            let kept: Vec<_> =
                types.filter_map(|t| t.strip_prefix(&package).map(str::to_owned)).collect();
            file.message_type.retain(|message| kept.iter().any(|kept| kept == message.name()));
            file.enum_type.clear();
            // Comments are found by the place of what they are about, which has changed.
            file.source_code_info = None;
        }
    }
    let folder = out.join("operator");
    std::fs::create_dir_all(&folder)?;
    tonic_prost_build::configure()
        .out_dir(folder)
        .build_server(whole)
        // Values that people hand over, and tokens that they are given.
        .skip_debug([".secretbroker.v1.SupplyRequest", ".secretbroker.v1.BreakGlassResponse"])
        .compile_fds(descriptors)?;
    workload(&out)
}

/// The client for the library, and a server for its tests.
fn workload(out: &Path) -> Result<(), Box<dyn Error>> {
    for (folder, server) in [("spiffe", false), ("spiffe-server", true)] {
        let folder = out.join(folder);
        std::fs::create_dir_all(&folder)?;
        tonic_prost_build::configure()
            .out_dir(folder)
            .build_client(!server)
            .build_server(server)
            // They hold private keys.
            .skip_debug([".X509SVID", ".X509SVIDResponse"])
            .compile_fds(protox::compile([WORKLOAD], ["src/tls/spiffe"])?)?;
    }
    Ok(())
}
