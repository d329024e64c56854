#!/bin/sh
# Starts the adapter that the conformance runner drives.
set -eu
cd "$(dirname "$0")"
mkdir -p .build
go build -o .build/conformance ./conformance >&2
exec .build/conformance
