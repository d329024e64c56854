#!/bin/sh
# Everything that has to hold for the Java client. Where RIG_CONTROL names a rig, its tests run too.
set -eu
cd "$(dirname "$0")"
excluded=rig
[ -z "${RIG_CONTROL:-}" ] || excluded=
echo "== lint, tests, jars"
mvn -B -ntp package "-DexcludedGroups=$excluded" ${TESTS:+"-Dtest=$TESTS"}
for jar in client-0.1.0.jar client-0.1.0-sources.jar client-0.1.0-javadoc.jar; do
    [ -s "target/$jar" ] || { echo "target/$jar is missing"; exit 1; }
done
echo "== a program uses the jar"
rm -rf target/user
mkdir -p target/user
javac -Xlint:all,-processing,-classfile,-path -Werror -proc:none -d target/user -cp "target/client-0.1.0.jar:$(cat target/classpath)" \
    src/test/java/io/secretbroker/examples/Readme.java
echo "== benchmark"
BENCHTIME_MS=200 ./benchmark.sh
echo "== all passed"
