#!/usr/bin/env bash
# Builds the adapter as `cargo test --workspace --all-features` builds it, and becomes it.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --workspace --all-features --examples
exec "${CARGO_TARGET_DIR:-target}/debug/examples/conformance"
