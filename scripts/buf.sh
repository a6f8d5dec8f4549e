#!/bin/sh
# Runs buf, installing the pinned version (package.json) into build/tools first, and npm with apt where that is possible.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
tools="$root/build/tools"
version=$(sed -n 's/.*"@bufbuild\/buf": "\(.*\)".*/\1/p' "$root/package.json")
if [ "$(cat "$tools/buf.version" 2>/dev/null || true)" != "$version" ]; then
    if ! command -v npm >/dev/null 2>&1; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
            apt-get update -qq && apt-get install -y -qq --no-install-recommends npm >/dev/null
        else
            echo "buf lint needs npm: install it (Debian: apt-get install npm) and run this again" >&2
            exit 1
        fi
    fi
    mkdir -p "$tools"
    cp "$root/package.json" "$tools/package.json"
    npm install --prefix "$tools" --no-package-lock --no-audit --no-fund --silent >&2
    echo "$version" >"$tools/buf.version"
fi
cd "$root"
exec "$tools/node_modules/.bin/buf" "$@"
