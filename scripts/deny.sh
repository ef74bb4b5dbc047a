#!/usr/bin/env bash
# Licences, sources, forbidden and doubled crates, and known vulnerabilities, by cargo-deny (deny.toml), which is installed where
# it is missing. Advisories are left out, and it is said, where their database cannot be reached.
# Exit code: 1 where a rule is broken, or, under CI=true, where cargo-deny cannot be had; 0 otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'deny: %s\n' "$*" >&2; }

if ! cargo deny --version >/dev/null 2>&1; then
    say "installing cargo-deny; this takes some minutes, once"
    # Unoptimised: it takes a second to run either way, and builds in a third of the time.
    if ! cargo install --locked --quiet --debug cargo-deny; then
        say "NOT CHECKED: cargo-deny could not be installed. Licences, bans and advisories were not looked at."
        test "${CI:-}" != true
        exit
    fi
fi

cargo deny check bans licenses sources
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny check advisories
else
    say "NOT CHECKED: advisories, as their database cannot be reached."
fi
