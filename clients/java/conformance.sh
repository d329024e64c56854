#!/bin/sh
# Starts the adapter that the conformance runner drives.
set -eu
cd "$(dirname "$0")"
./compile.sh >&2 </dev/null
exec java -cp "target/test-classes:target/classes:$(cat target/classpath)" io.secretbroker.client.Conformance
