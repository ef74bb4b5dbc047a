#!/usr/bin/env bash
# Licences, sources, forbidden and doubled crates, and known vulnerabilities, by cargo-deny (deny.toml), which is installed where
# it is missing. Advisories are left out, and it is said, where their database cannot be reached.
# Exit code: 1 where a rule is broken; 0 otherwise, also, and loudly, where cargo-deny cannot be had within a quarter of an hour.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'deny: %s\n' "$*" >&2; }

if ! cargo deny --version >/dev/null 2>&1; then
    say "installing cargo-deny; this takes some minutes, once"
    # Unoptimised: it takes a second to run either way, and builds in a third of the time.
    if ! timeout 900 cargo install --locked --quiet --debug cargo-deny; then
        say "NOT CHECKED: cargo-deny could not be installed. Licences, bans and advisories were not looked at."
        exit 0
    fi
fi

cargo deny check bans licenses sources
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    say "NOT CHECKED: advisories, as their database cannot be reached."
fi
