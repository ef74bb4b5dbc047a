#!/usr/bin/env bash
# Makes the pictures of the screen in README.md and docs/usage.md: runs a real download on this machine in tmux, captures the
# screen, and draws it with scripts/ansi2svg.py into docs/pictures. BTSYNC sets another binary. Needs tmux and python3.
set -euo pipefail
cd "$(dirname "$0")/.."

btsync=${BTSYNC:-$PWD/${CARGO_TARGET_DIR:-target}/release/btsync}
[ -x "$btsync" ] || btsync=${CARGO_TARGET_DIR:-target}/release/btsync
[ -x "$btsync" ] || { echo "pictures: no binary: run make build first" >&2; exit 1; }
btsync=$(realpath "$btsync")
readonly COLUMNS_WIDE=100 ROWS=27
stage=$(mktemp -d)
helpers=()

cleanup() {
    tmux -S "$stage/tmux" kill-server 2>/dev/null || true
    [ "${#helpers[@]}" -eq 0 ] || kill "${helpers[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$stage"
}
trap cleanup EXIT

pane() { tmux -u -S "$stage/tmux" "$@"; }

# Waits until the screen matches a pattern, for 30 seconds at most.
shows() {
    local tries=300
    until pane capture-pane -p | grep -qE -- "$1"; do
        [ $((tries -= 1)) -gt 0 ] || { echo "pictures: '$1' is not seen" >&2; pane capture-pane -p >&2; exit 1; }
        sleep 0.1
    done
}

# picture NAME TITLE: draws the current screen.
picture() {
    pane capture-pane -p -e | python3 scripts/ansi2svg.py "$COLUMNS_WIDE" "$2" \
        >"docs/pictures/$1.svg"
    echo "docs/pictures/$1.svg" >&2
}

mkdir -p "$stage/source/photos" docs/pictures
export XDG_CACHE_HOME=$stage/cache
for n in $(seq 1 14); do
    head -c "$((n * 3 + 5))M" /dev/urandom >"$stage/source/photos/day-$(printf %02d "$n").tar"
done
port=$((20000 + RANDOM % 20000))
"$btsync" tracker --listen "127.0.0.1:$port" 2>"$stage/tracker.log" &
helpers+=("$!")
"$btsync" create "$stage/source/photos" -o "$stage/photos.torrent" --announce "http://127.0.0.1:$port/announce" 2>"$stage/create.log"
# Four seeders, each with its own upload limit and address.
for n in 2 3 4 5; do
    "$btsync" "$stage/photos.torrent" "$stage/source" --seed --quiet --interface "127.0.0.$n" --no-dht --no-lsd \
        --max-upload-limit "$((n * 800))K" --encryption "$([ "$n" = 4 ] && echo require || echo prefer)" &
    helpers+=("$!")
done

printf 'set -g status off\nset -g default-terminal xterm-256color\n' >"$stage/tmux.conf"
# A shell with a plain prompt in the stage's folder, so that the picture shows no colours, markers or paths of this machine.
PS1='$ ' LC_ALL=C.UTF-8 pane -f "$stage/tmux.conf" new-session -d -x "$COLUMNS_WIDE" -y "$ROWS" -c "$stage" \
    env -u NO_COLOR -u TMUX "PATH=$(dirname "$btsync"):$PATH" bash --norc --noprofile -i
shows '^[$]'
pane send-keys -l "clear; btsync photos.torrent downloads --interface 127.0.0.9 --no-dht --no-lsd --peer 127.0.0.2:6881"
pane send-keys Enter
shows '127\.0\.0\.5:'
shows '^4[0-9]\.[0-9]%'
picture peers "btsync downloads: pieces, speed and peers"
pane send-keys f
shows 'files: '
pane send-keys '?'
shows 'f: files or peers'
picture files "btsync downloads: files and keys"
pane send-keys q
shows 'the same command resumes'
