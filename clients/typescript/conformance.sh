#!/usr/bin/env bash
# Starts the adapter of the conformance runner: JSON lines on standard input and output.
set -euo pipefail
cd "$(dirname "$0")"
if [ ! -f .build/conformance/adapter.js ]; then
  { npm ci --no-audit --no-fund && npm run --silent build && node_modules/.bin/tsc; } >&2
fi
exec node .build/conformance/adapter.js
