#!/usr/bin/env bash
# make demo: runs examples/app.py with a ledger of its own in .demo/ and shows what it cost.
set -euo pipefail
cd "$(dirname "$0")/.."

export SPANLEDGER_HOME="${DEMO_HOME:-$PWD/.demo}"
unset SPANLEDGER_URL SPANLEDGER_CONFIG LLM_USAGE_LOGGING_ENABLED OTEL_SDK_DISABLED
# A proxy has no business on loopback.
export NO_PROXY="localhost,127.0.0.1${NO_PROXY:+,$NO_PROXY}"
export no_proxy="$NO_PROXY"
# Whose prices the stand-in server's two names have.
export SPANLEDGER_HOSTS=localhost=openai,127.0.0.1=anthropic
# No collector listens in the demo: spans go nowhere else, the ledger gets its rows all the same.
export OTEL_TRACES_EXPORTER=${OTEL_TRACES_EXPORTER:-none}
export OTEL_METRICS_EXPORTER=${OTEL_METRICS_EXPORTER:-none}
export OTEL_LOGS_EXPORTER=${OTEL_LOGS_EXPORTER:-none}
export OTEL_SERVICE_NAME=${OTEL_SERVICE_NAME:-help-desk}

spanledger down --quiet
rm -rf "$SPANLEDGER_HOME"
spanledger up --no-collector --no-serve
trap 'spanledger down --quiet' EXIT

opentelemetry-instrument python examples/app.py
spanledger report --by model

cat <<MORE
This ledger stays in $SPANLEDGER_HOME. More of it:

    export SPANLEDGER_HOME=$SPANLEDGER_HOME PATH=$PWD/.venv/bin:\$PATH
    spanledger report --by tenant,feature
    spanledger sql "SELECT * FROM llm_calls FINAL ORDER BY start_time LIMIT 1" --format Vertical
MORE
