#!/usr/bin/env bash
# Builds what the end-to-end tests run beside spanledger, once, and says where it is:
#
#     e2e/build.sh otelcol | jaeger | docker-compose | node
#
# The programs are kept in SPANLEDGER_E2E_CACHE (default ~/.cache/spanledger/e2e) and built again only when what they
# are made of changes: the versions pinned in this folder, or Go itself. Progress goes to stderr, the path to stdout.
set -euo pipefail
cd "$(dirname "$0")"

cache=${SPANLEDGER_E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/spanledger/e2e}
mkdir -p "$cache"

say() { echo "e2e: $*" >&2; }

need() {
  command -v "$1" >/dev/null || { say "$1 is not on this machine: $2"; exit 69; }
}

# go_build FOLDER PACKAGE OUT [LDFLAGS]: stripped, with a line for each hundred packages.
go_build() {
  (cd "$1" && GOFLAGS= go build -v -trimpath -buildvcs=false -ldflags "-s -w ${4-}" -o "$3" "$2") 2>&1 |
    tee "$work/log" | awk 'NR % 100 == 0 {print "e2e:   " NR " packages" > "/dev/stderr"}' ||
    { tail -n 50 "$work/log" >&2; exit 1; }
}

otelcol() {
  need go https://go.dev/dl
  local src=$work/src
  mkdir "$src"
  cp collector/otelcol.sum "$src/go.sum"
  sed "s#^dist:#dist:\n  output_path: $src#" collector/manifest.yaml >"$work/manifest.yaml"
  (cd collector && GOFLAGS= go build -buildvcs=false -o "$work/ocb" go.opentelemetry.io/collector/cmd/builder)
  "$work/ocb" --config "$work/manifest.yaml" --skip-compilation >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  go_build "$src" . "$work/out"
}

jaeger() {
  need go https://go.dev/dl
  local version=github.com/jaegertracing/jaeger/internal/version
  go_build jaeger github.com/jaegertracing/jaeger/cmd/jaeger "$work/out" "-X $version.latestVersion=v2.13.0"
}

docker-compose() {
  need go https://go.dev/dl
  go_build compose github.com/docker/compose/v5/cmd "$work/out"
}

node() {
  need npm https://nodejs.org
  mkdir "$work/out"
  cp node/package.json node/package-lock.json "$work/out"
  npm ci --prefix "$work/out" --ignore-scripts --no-audit --no-fund --silent >&2
}

declare -A inputs=(
  [otelcol]="collector/manifest.yaml collector/otelcol.sum collector/go.mod collector/go.sum"
  [jaeger]="jaeger/go.mod jaeger/go.sum"
  [docker-compose]="compose/go.mod compose/go.sum"
  [node]="node/package.json node/package-lock.json"
)
name=${1-}
[[ -n $name && -n ${inputs[$name]-} ]] || { say "usage: e2e/build.sh ${!inputs[*]}"; exit 64; }

tool=$([[ $name == node ]] && command node --version 2>/dev/null || go version 2>/dev/null || true)
# shellcheck disable=SC2086 # a list of files
key=$({ echo "$tool"; cat ${inputs[$name]}; } | sha256sum | cut -c1-16)
out=$cache/$name-$key
if [[ ! -e $out ]]; then
  exec 9>"$cache/$name.lock"
  flock 9
  if [[ ! -e $out ]]; then
    work=$(mktemp -d "$cache/$name.XXXXXX")
    trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
    say "building $name, once; the first time takes minutes"
    began=$SECONDS
    "$name"
    mv "$work/out" "$out"
    say "$name is built: $((SECONDS - began)) s, $(du -sh "$out" | cut -f1)"
  fi
fi
echo "$out"
