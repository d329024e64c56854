#!/usr/bin/env bash
# Generates the stubs in src/secret_broker/_proto from the contract. Their runtime floor is set by the versions here.
set -euo pipefail
cd "$(dirname "$0")"
python3 -m venv .venv-generate
.venv-generate/bin/pip install --quiet 'grpcio-tools==1.76.0' 'mypy-protobuf==3.7.*'
tools=.venv-generate/bin
"$tools/python" -m grpc_tools.protoc -I secret_broker/_proto=proto/secretbroker/v1 \
  --plugin=protoc-gen-mypy="$tools/protoc-gen-mypy" --plugin=protoc-gen-mypy_grpc="$tools/protoc-gen-mypy_grpc" \
  --python_out=src --grpc_python_out=src --mypy_out=src --mypy_grpc_out=src secret_broker/_proto/broker.proto
printf '"""The messages and stubs of `secretbroker.v1`, as generated."""\n' > src/secret_broker/_proto/__init__.py
