#!/bin/sh
# Writes the stubs of the broker's contract anew, into the folder given or internal/brokerpb.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "${1:-$here/internal/brokerpb}" && cd "${1:-$here/internal/brokerpb}" && pwd)
cd "$here/tools"
exec go run ./generate "$here/../../proto" "$out" \
    github.com/secret-broker/secret-broker/clients/go/internal/brokerpb
