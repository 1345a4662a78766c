#!/usr/bin/env bash
# Installs what the tests need and runs them all. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")"

missing() {
    echo "The tests need $1. Install it with: $2" >&2
    exit 1
}

# Debian and its kin: the packages are installed when this runs as root, else the command is shown.
need() { # command, package
    command -v "$1" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null
    fi
    command -v "$1" >/dev/null || missing "$1" "apt-get install $2"
}

command -v cargo >/dev/null || missing "cargo (Rust 1.95 or newer)" "https://rustup.rs"
need cc build-essential
need node nodejs
need npm npm
need chromium chromium
# Debian and Homebrew keep Postgres beside the PATH; the tests look there too.
postgres() { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb /opt/homebrew/opt/postgresql@*/bin/initdb 2>/dev/null; }
[ -n "$(postgres)" ] || (need initdb postgresql) 2>/dev/null || [ -n "$(postgres)" ] || missing PostgreSQL "apt-get install postgresql"

# The published clients that the platform is compatible with, and the chat page's tools.
npm ci --no-audit --no-fund --silent --prefix tests/client

cargo test --workspace "$@"

# Once more with servers on Postgres: what depends on where documents, functions, events and tasks are kept.
[ $# -eq 0 ] || exit 0
PLATFORM_STORE=postgres cargo test --workspace --test platform -- \
    abuse::chains abuse::database abuse::tenancy accounts:: channels:: chat:: cli_db:: cli_tasks:: documents:: functions:: mail:: \
    outbox:: quotas:: realtime:: restart:: stats:: tasks:: upload::
