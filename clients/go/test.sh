#!/bin/sh
# Everything that has to hold for the Go client. Where RIG_CONTROL names a rig, its tests run too.
set -eu
cd "$(dirname "$0")"
step() { echo "== $*"; }

step "format, vet, module"
unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "not formatted: $unformatted"; exit 1; }
go vet ./...
go vet -tags rig ./rigtest
go mod tidy -diff
go mod verify >/dev/null

step "staticcheck"
mkdir -p .build
(cd tools && go build -o ../.build/staticcheck honnef.co/go/tools/cmd/staticcheck)
.build/staticcheck -tags rig ./...

step "stubs are those of the contract"
rm -rf .build/stubs
./generate.sh .build/stubs
diff -r .build/stubs internal/brokerpb

step "unit tests"
go test -race ./...

step "benchmark"
BENCHTIME=100ms ./benchmark.sh

step "another module uses it"
rm -rf .build/user
mkdir -p .build/user
cp examples/readme/main.go .build/user/
(
    cd .build/user
    module=github.com/secret-broker/secret-broker/clients/go
    go mod init example.test/user 2>/dev/null
    go mod edit -require "$module@v0.0.0" -replace "$module=../.."
    go mod tidy >/dev/null 2>&1
    go vet .
)

if [ -n "${RIG_CONTROL:-}" ]; then
    step "on the rig"
    go test -race -count=1 -timeout 600s -tags rig ${RIG_TESTS:+-run "$RIG_TESTS"} -v ./rigtest
fi
echo "== all passed"
