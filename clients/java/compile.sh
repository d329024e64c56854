#!/bin/sh
# Compiles the client and its tests, where they changed since.
set -eu
cd "$(dirname "$0")"
done=target/compiled
if [ ! -f "$done" ] || [ -n "$(find src pom.xml ../../proto -newer "$done" -print)" ]; then
    mvn -q -B process-test-classes
    touch "$done"
fi
