#!/usr/bin/env bash
# Installs the programs that the tests need: other clients and trackers, the shells whose completions are tested, tmux for the
# live view, Chromium and Node for the page, remote controls for Transmission, proxies, and the checkers of the manual and the package. btsync itself is not installed.
# Idempotent. As root on Debian or Ubuntu it installs missing programs; otherwise it only lists them.
# Exit code: 0 if every program is installed in the end, 1 if one is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

# PROGRAM:PACKAGE, the Debian package that has each program.
readonly PROGRAMS="aria2c:aria2 transmission-daemon:transmission-daemon rtorrent:rtorrent qbittorrent-nox:qbittorrent-nox opentracker:opentracker
ip:iproute2 unshare:util-linux mandoc:mandoc bash:bash zsh:zsh fish:fish lintian:lintian dpkg-shlibdeps:dpkg-dev
strip:binutils systemd-analyze:systemd tmux:tmux strace:strace chromium:chromium node:nodejs npm:npm
transmission-remote:transmission-cli nginx:nginx apache2:apache2 curl:curl
miniupnpd:miniupnpd-nftables nft:nftables microsocks:microsocks danted:dante-server tinyproxy:tinyproxy squid:squid"
readonly LIBTORRENT="libtorrent==2.0.11"
export PATH="$PATH:/usr/sbin:/sbin"

have() { command -v "$1" >/dev/null 2>&1; }
say() { printf 'test-setup: %s\n' "$*" >&2; }

missing_packages() {
    for pair in $PROGRAMS; do
        have "${pair%%:*}" || printf '%s\n' "${pair##*:}"
    done
    have python3 || printf 'python3\n'
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || printf 'python3-venv\n'
    # Only the system's python finds the modules of Debian packages.
    /usr/bin/python3 -c 'import fusepy' >/dev/null 2>&1 || printf 'python3-fusepy\n'
}

# Debian starts a service as soon as its package is installed; a policy of 101 ("forbidden") prevents that.
install_packages() {
    local policy=/usr/sbin/policy-rc.d ours=no code=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        ours=yes
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; } >&2 || code=$?
    [ "$ours" = no ] || rm -f "$policy"
    return "$code"
}

# Also stops the services and disables them at boot: they must not run on a machine that runs tests.
silence_services() {
    for service in transmission-daemon opentracker nginx apache2 microsocks danted tinyproxy squid; do
        if [ -d /run/systemd/system ]; then
            systemctl disable --now "$service" >/dev/null 2>&1 || true
        elif [ -x "/etc/init.d/$service" ]; then
            "/etc/init.d/$service" stop >/dev/null 2>&1 || true
        fi
    done
}

mapfile -t missing < <(missing_packages)
if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" -eq 0 ] && have apt-get; then
        say "installing with apt-get: ${missing[*]} (SETUP=no make test installs nothing)"
        install_packages "${missing[@]}" || say "apt-get failed"
        silence_services
    else
        say "missing, and only root on Debian or Ubuntu can install them here: ${missing[*]}"
    fi
fi

if ! .venv/bin/python -c 'import libtorrent' >/dev/null 2>&1; then
    say "making .venv with $LIBTORRENT, by pip"
    { python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check "$LIBTORRENT" >&2; } \
        || say "no libtorrent: pip failed"
fi

# The torrents of libtorrent's own tests, from Debian's source package; nothing of them is part of the program. The source list
# and what apt reads with it are in a temporary folder, so this needs no root and changes nothing on the machine.
fetch_test_torrents() {
    local folder keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    folder=$(mktemp -d)
    mkdir -p "$folder/parts" "$folder/lists/partial"
    printf 'deb-src [signed-by=%s] http://deb.debian.org/debian stable main\n' "$keyring" >"$folder/parts/source.list"
    (
        cd "$folder"
        options=(-qq -o Dir::Etc::sourcelist=- -o "Dir::Etc::sourceparts=$folder/parts" -o "Dir::State::lists=$folder/lists")
        apt-get "${options[@]}" update && apt-get "${options[@]}" source --download-only libtorrent-rasterbar \
            && tar -xf libtorrent-rasterbar_*.orig.tar.* --wildcards --strip-components=3 '*/test/test_torrents/*.torrent'
    ) >/dev/null 2>&1 && mkdir -p .venv/libtorrent-test-torrents && mv "$folder"/*.torrent .venv/libtorrent-test-torrents/
    rm -rf "$folder"
}
if have apt-get && [ ! -d .venv/libtorrent-test-torrents ]; then
    say "fetching the test torrents of libtorrent, with apt-get source"
    fetch_test_torrents || say "no test torrents of libtorrent: apt-get source failed"
fi

if [ ! -x .venv/bin/stig ] || ! .venv/bin/python -c 'import transmission_rpc' >/dev/null 2>&1; then
    say "installing tests/rpc/requirements.txt into .venv, by pip"
    .venv/bin/pip install --quiet --disable-pip-version-check --requirement tests/rpc/requirements.txt >&2 || say "pip failed"
fi

# Node's packages for the tests of the page and of the remote control; nothing of them is part of the program, and none of their
# scripts runs.
npm_packages() {
    have npm && [ ! -d "$1/node_modules/$2" ] || return 0
    say "installing the packages of $1/package-lock.json, by npm"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error --prefix "$1" >&2 || say "npm failed"
}
npm_packages tests/page playwright-core
npm_packages tests/rpc @ctrl/transmission

failed=0
check() {
    local name=$1 version
    shift
    # opentracker has no version option; it prints its usage and fails. Any first line counts as success.
    version=$({ "$@" 2>&1 || true; } | sed -n 1p)
    if have "$1" && [ -n "$version" ]; then
        say "$name: $version"
    else
        say "$name: MISSING"
        failed=1
    fi
}
check aria2 aria2c --version
check transmission-daemon transmission-daemon --version
check rtorrent rtorrent -h
check qbittorrent-nox qbittorrent-nox --version
check opentracker opentracker -h
check iproute2 ip -V
check util-linux unshare --version
check bash bash --version
check zsh zsh --version
check fish fish --version
check lintian lintian --version
check dpkg-dev dpkg-shlibdeps --version
check binutils strip --version
check systemd systemd-analyze --version
check tmux tmux -V
check chromium chromium --version
check nodejs node --version
check npm npm --version
# mandoc has no version option, so its usage has to do.
check mandoc mandoc '-?'
check transmission-cli transmission-remote --version
check miniupnpd miniupnpd --version
check nftables nft --version
check nginx nginx -v
check apache2 apache2 -v
check curl curl --version
check dante-server danted -v
check tinyproxy tinyproxy -v
check squid squid -v
# microsocks has no version option, so its usage has to do.
check microsocks microsocks '-?'
check stig .venv/bin/stig --version
for folder in tests/page/node_modules/playwright-core tests/rpc/node_modules/@ctrl/transmission; do
    if [ ! -d "$folder" ]; then
        say "$folder: MISSING"
        failed=1
    fi
done
if ! .venv/bin/python -c 'import transmission_rpc' >/dev/null 2>&1; then
    say "transmission-rpc: MISSING"
    failed=1
fi
if .venv/bin/python -c 'import libtorrent; print("test-setup: libtorrent:", libtorrent.version)' >&2; then :; else
    say "libtorrent: MISSING"
    failed=1
fi
exit "$failed"
