#!/bin/sh
# Generates the stubs into generated/, with the Python given as $PYTHON (it needs grpcio-tools and grpcio-status).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
mkdir -p "$here/generated"
cd "$here/../../protos"
"$python" -m grpc_tools.protoc --proto_path=. --python_out="$here/generated" --pyi_out="$here/generated" \
    --grpc_python_out="$here/generated" swarm/v1/*.proto
