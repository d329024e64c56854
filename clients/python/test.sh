#!/usr/bin/env bash
# Installs what the tests need, then runs all of them: lints, types, unit tests, the tests on real servers, the README's
# example and the packaging check. The servers are found by the variables of tests/clients/README.md.
set -euo pipefail
cd "$(dirname "$0")"
: "${RIG_CONTROL:?start the servers first, as tests/clients/README.md says}"

python=$(command -v python3.11 || command -v python3)
wanted=$(sha256sum pyproject.toml)
if [ "$(cat .venv/wanted 2>/dev/null)" != "$wanted" ]; then
  rm -rf .venv
  "$python" -m venv .venv
  .venv/bin/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
  .venv/bin/pip install --quiet --group dev --editable '.[jwt,psycopg,redis,sqlalchemy]'
  echo "$wanted" > .venv/wanted
fi
export PATH="$PWD/.venv/bin:$PATH" PYTHONDONTWRITEBYTECODE=1

stage() {
  local start=$SECONDS
  printf '== %s\n' "$1"
  shift
  "$@"
  printf '   %ss\n' $((SECONDS - start))
}

package() {
  rm -rf dist .venv-package
  python -m build --outdir dist --no-isolation . >/dev/null
  unzip -l dist/*.whl 2>/dev/null || python -m zipfile --list dist/*.whl
  # A program that uses the wheel, and nothing else of ours, passes strict type checks and runs.
  python -m venv .venv-package
  .venv-package/bin/pip install --quiet --disable-pip-version-check dist/*.whl
  mypy --strict --config-file= --python-executable .venv-package/bin/python examples/typed.py
  .venv-package/bin/python examples/typed.py
}

stage "format" ruff format --check .
stage "lints" ruff check .
stage "types" mypy
stage "unit tests" pytest tests/unit
stage "tests on real servers" pytest tests/integration
stage "readings and hooks, measured" python bench/bench.py
stage "package" package
