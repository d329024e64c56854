#!/bin/sh
# Prints reads per second of a live handle and the time from a change at a broker to the hook.
set -eu
cd "$(dirname "$0")"
./compile.sh
exec java -cp "target/test-classes:target/classes:$(cat target/classpath)" io.secretbroker.client.Benchmark "${BENCHTIME_MS:-1000}"
