#!/bin/sh
# Installs what `make demo` and `make test` need beside a Rust toolchain: a redis-server or valkey-server binary.
set -eu
for server in redis-server valkey-server; do
    if command -v "$server" >/dev/null 2>&1; then
        echo "setup: $server is present, nothing to do"
        exit 0
    fi
done
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
if command -v apt-get >/dev/null 2>&1; then
    echo "setup: installing redis-server with apt-get"
    $as_root apt-get update -qq
    # The package's own service is not wanted: tests and the demo start private servers.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server
elif command -v dnf >/dev/null 2>&1; then
    echo "setup: installing valkey (or redis) with dnf"
    $as_root dnf install -y valkey || $as_root dnf install -y redis
elif command -v brew >/dev/null 2>&1; then
    echo "setup: installing redis with brew"
    brew install redis
else
    echo "setup: no apt-get, dnf or brew here; install redis-server or valkey-server and try again" >&2
    exit 1
fi
