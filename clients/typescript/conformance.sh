#!/usr/bin/env bash
# Starts the adapter of the conformance runner: JSON lines on standard input and output.
set -euo pipefail
cd "$(dirname "$0")"
adapter=.build/conformance/adapter.js
if [ ! -d node_modules/jose ]; then
  npm ci --no-audit --no-fund >&2
fi
if [ ! -f "$adapter" ] || [ -n "$(find src conformance package.json -newer "$adapter" -print -quit)" ]; then
  { npm run --silent build && node_modules/.bin/tsc; } >&2
  touch "$adapter"
fi
exec node "$adapter"
