#!/usr/bin/env bash
# Starts the adapter of the conformance runner: JSON lines on standard input and output.
set -euo pipefail
cd "$(dirname "$0")"
if [ ! -x .venv/bin/python ]; then
  { "$(command -v python3.11 || command -v python3)" -m venv .venv &&
    .venv/bin/pip install --quiet --disable-pip-version-check --editable '.[jwt]'; } >&2
fi
exec .venv/bin/python conformance/adapter.py
