#!/usr/bin/env bash
# Fuzzes a cluster of its own by its OpenAPI document, and fails on any answer of 5xx.
# usage: tests/schemathesis.sh [SECONDS]       (120 unless told; needs python3, and the binaries: cargo build --workspace)
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-120}
port=${PORT:-17700}
url=http://127.0.0.1:$port
folder=$(mktemp -d /tmp/schemathesis.XXXXXX)
# Passable, because PostgreSQL may run as another user.
chmod 755 "$folder"

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet install 'schemathesis>=4,<5'

target/debug/atoll dev --workers 2 --port "$port" --data-dir "$folder/cluster" >"$folder/dev.out" 2>"$folder/dev.err" &
dev=$!
stop() {
    status=$?
    kill "$dev" 2>/dev/null || true
    wait "$dev" 2>/dev/null || true
    if [ "$status" -eq 0 ]; then rm -rf "$folder"; else echo "logs stay in $folder/cluster/logs" >&2; fi
}
trap stop EXIT
until grep -q '^ready: ' "$folder/dev.out"; do
    kill -0 "$dev" || { cat "$folder/dev.err" >&2; exit 1; }
    sleep 0.2
done

# Membership is left alone: without its only coordinator the cluster could answer nothing any more.
outcome=0
timeout --signal=INT "$seconds" "$folder/venv/bin/schemathesis" run "$url/openapi.json" \
    --checks not_a_server_error --max-examples 200 --exclude-path-regex '^/v1/admin/coordinators' \
    --request-timeout 30 --no-color || outcome=$?
# 124: time is up, which is no failure by itself.
[ "$outcome" -eq 124 ] && outcome=0
curl --silent --fail "$url/readyz" >/dev/null || { echo "the cluster is not ready any more" >&2; outcome=1; }
if grep -h '"level":"ERROR"\|panicked at' "$folder"/cluster/logs/*.log; then
    echo "the logs tell of errors, see above" >&2
    outcome=1
fi
exit "$outcome"
