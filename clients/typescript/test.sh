#!/usr/bin/env bash
# Installs what the tests need, then runs all of them: lints, types, unit tests, the tests on real servers, the README's
# example and the packaging check. The servers are found by the variables of tests/clients/README.md.
set -euo pipefail
cd "$(dirname "$0")"
: "${RIG_CONTROL:?start the servers first, as tests/clients/README.md says}"

wanted=$(sha256sum package-lock.json)
if [ "$(cat node_modules/.wanted 2>/dev/null)" != "$wanted" ]; then
  npm ci --no-audit --no-fund --loglevel=error
  echo "$wanted" > node_modules/.wanted
fi
export PATH="$PWD/node_modules/.bin:$PATH"

stage() {
  local start=$SECONDS
  printf '== %s\n' "$1"
  shift
  "$@"
  printf '   %ss\n' $((SECONDS - start))
}

stubs() {
  local fresh
  fresh=$(mktemp -d)
  buf generate --template buf.gen.yaml --output "$fresh" --path proto/secretbroker/v1/broker.proto proto
  diff -r "$fresh/src/generated" src/generated
  rm -r "$fresh"
}

compile() {
  rm -rf .build dist
  tsc --project tsconfig.build.json
  tsc
}

tests() {
  node --test --test-timeout=600000 --test-concurrency=1 --test-reporter=dot .build/tests/"$1"/*.test.js
}

package() {
  rm -rf .pack
  mkdir .pack
  npm pack --silent --pack-destination .pack
  tar -tzf .pack/*.tgz
  # A program that uses the package, and nothing else of ours, passes strict type checks and runs.
  printf '{ "type": "module" }\n' > .pack/package.json
  (cd .pack && npm install --silent --no-audit --no-fund --prefer-offline ./*.tgz)
  cp examples/typed.ts .pack/
  tsc --strict --module nodenext --target es2022 --lib es2023,esnext.disposable \
    --types node --typeRoots node_modules/@types .pack/typed.ts
  node .pack/typed.js
}

stage "format" prettier --log-level warn --check .
stage "stubs" stubs
stage "types" compile
stage "lints" eslint --max-warnings 0
stage "unit tests" tests unit
stage "tests on real servers" tests integration
stage "readings and hooks, measured" node .build/bench/bench.js
stage "package" package
