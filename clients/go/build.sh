#!/bin/sh
# Generates the stubs into generated/ and builds bin/conformance and bin/engine. protoc itself is that of grpcio-tools,
# in the Python given as $PYTHON; its plugins are built by Go, in the versions of go.mod.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
stubs=swarmd.example/client/generated/swarmpb # the protos name no Go package: the M options below do

cd "$here"
go build -o bin/ tool
mkdir -p generated
cd "$here/../../protos"
set -- --plugin="$here/bin/protoc-gen-go" --go_out="$here/generated" --go_opt=module=swarmd.example/client/generated \
    --plugin="$here/bin/protoc-gen-go-grpc" --go-grpc_out="$here/generated" \
    --go-grpc_opt=module=swarmd.example/client/generated
for proto in swarm/v1/*.proto; do
    set -- "$@" --go_opt="M$proto=$stubs" --go-grpc_opt="M$proto=$stubs"
done
"$python" -m grpc_tools.protoc --proto_path=. "$@" swarm/v1/*.proto

cd "$here"
go build -o bin/conformance ./conformance
go build -o bin/engine ./engine
