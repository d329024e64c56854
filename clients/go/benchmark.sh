#!/bin/sh
# Prints reads per second of a live handle and the time from a change at a broker to the hook.
set -eu
cd "$(dirname "$0")"
exec go test -run '^$' -bench . -benchtime "${BENCHTIME:-1s}" -cpu 1,2 .
