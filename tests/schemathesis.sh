#!/usr/bin/env bash
# Fuzzes a cluster of its own by its OpenAPI document, and fails on any answer of 5xx.
# usage: tests/schemathesis.sh [SECONDS]       (120 unless told; needs python3, and the binaries: cargo build --workspace)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-120}
port=${PORT:-17700}
url=http://127.0.0.1:$port
# For the cluster to come up, in seconds.
patience=240
folder=$(mktemp -d /tmp/schemathesis.XXXXXX)
# Passable, because PostgreSQL may run as another user.
chmod 755 "$folder"

python3 -m venv "$folder/venv"
# The first release known to have --max-time.
"$folder/venv/bin/pip" --quiet install 'schemathesis>=4.32,<5'

target/debug/atoll dev --workers 2 --port "$port" --data-dir "$folder/cluster" >"$folder/dev.out" 2>"$folder/dev.err" &
dev=$!
stop() {
    status=$?
    kill "$dev" 2>/dev/null || true
    wait "$dev" 2>/dev/null || true
    if [ "$status" -eq 0 ]; then rm -rf "$folder"; else echo "logs stay in $folder" >&2; fi
}
trap stop EXIT
SECONDS=0
until grep -q '^ready: ' "$folder/dev.out"; do
    if ! kill -0 "$dev" 2>/dev/null || [ "$SECONDS" -ge "$patience" ]; then
        cat "$folder/dev.err" >&2
        echo "the cluster did not come up" >&2
        exit 1
    fi
    sleep 0.2
done

# Time is up by its own clock: a fuzzer that is broken off tells nothing of what it found. Membership is left alone: without its only
# coordinator the cluster could answer nothing any more. So is import: the fuzzer can't write NDJSON, and calls that an error.
outcome=0
"$folder/venv/bin/schemathesis" run "$url/openapi.json" --max-time "$seconds" --max-examples 200 --continue-on-failure \
    --checks not_a_server_error --exclude-path-regex '^/v1/admin/coordinators|/import$' --request-timeout 30 --no-color || outcome=$?
curl --silent --fail "$url/readyz" >/dev/null || { echo "the cluster is not ready any more" >&2; outcome=1; }
if grep -h '"level":"ERROR"\|panicked at' "$folder"/cluster/logs/*.log; then
    echo "the logs tell of errors, see above" >&2
    outcome=1
fi
exit "$outcome"
