#!/usr/bin/env bash
# Demonstrates btsync without the internet: creates a payload, shares it with `btsync create`, `btsync tracker` and
# `btsync --seed`, downloads it on the same machine, compares the files, and shows the same in a browser with `btsync serve`. DEMO_MB sets
# the payload's size, DEMO_SECONDS how long the page stays, BTSYNC another binary.
set -euo pipefail
cd "$(dirname "$0")/.."

megabytes=${DEMO_MB:-800}
# Longer for somebody who can open the page.
[ -t 2 ] && seconds=${DEMO_SECONDS:-60} || seconds=${DEMO_SECONDS:-5}
btsync=${BTSYNC:-$PWD/${CARGO_TARGET_DIR:-target}/release/btsync}
[ -x "$btsync" ] || btsync=${CARGO_TARGET_DIR:-target}/release/btsync
[ -x "$btsync" ] || { echo "demo: no binary: run make build first" >&2; exit 1; }
demo=$PWD/.demo
helpers=()

say() { printf '\n== %s\n' "$*" >&2; }

cleanup() {
    [ "${#helpers[@]}" -eq 0 ] || kill "${helpers[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$demo"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
    echo "demo: $1" >&2
    [ ! -s "$2" ] || tail -n 20 "$2" >&2
    exit 1
}

# Waits until the log contains the word, its writer has ended, or 30 seconds have passed.
wait_for() {
    local word=$1 log=$2 pid=$3 tries=300
    until grep -q "$word" "$log" 2>/dev/null; do
        kill -0 "$pid" 2>/dev/null && [ $((tries -= 1)) -gt 0 ] || return 1
        sleep 0.1
    done
}

rm -rf "$demo"
mkdir -p "$demo/source" "$demo/download"
export XDG_CACHE_HOME=$demo/cache XDG_CONFIG_HOME=/nonexistent
say "a payload of $megabytes MiB of random bytes"
head -c "$((megabytes * 1024 * 1024))" /dev/urandom >"$demo/source/payload.bin"

# If a port is in use, the next attempt uses another one.
tracker=
for _ in 1 2 3 4 5 6 7 8; do
    port=$((20000 + RANDOM % 20000))
    "$btsync" tracker --listen "127.0.0.1:$port" >"$demo/tracker.log" 2>&1 &
    tracker=$!
    if wait_for "tracker listens" "$demo/tracker.log" "$tracker"; then
        helpers+=("$tracker")
        break
    fi
    kill "$tracker" 2>/dev/null || true
    tracker=
done
[ -n "$tracker" ] || give_up "the tracker does not start" "$demo/tracker.log"
url=http://127.0.0.1:$port/announce
say "btsync tracker --listen 127.0.0.1:$port   (in the background)"

say "btsync create source/payload.bin --announce $url"
"$btsync" create "$demo/source/payload.bin" --announce "$url" --output "$demo/payload.torrent"

say "btsync payload.torrent source --seed   (in the background)"
"$btsync" "$demo/payload.torrent" "$demo/source" --seed --no-dht --no-lsd --no-port-mapping --listen-port 40001-49999 >"$demo/seeder.log" 2>&1 &
helpers+=("$!")
wait_for "returned" "$demo/seeder.log" "$!" || give_up "the seeder does not start" "$demo/seeder.log"

say "btsync payload.torrent download"
start=$(date +%s)
"$btsync" "$demo/payload.torrent" "$demo/download" --no-dht --no-lsd --no-port-mapping --listen-port 50001-59999
end=$(date +%s)

cmp "$demo/source/payload.bin" "$demo/download/payload.bin" || give_up "the bytes differ" "$demo/seeder.log"
say "$megabytes MiB downloaded and verified in about $((end - start)) s; compared byte by byte with the source: the same"

magnet=$("$btsync" info "$demo/payload.torrent" | sed -n 's/^magnet  *//p')
say "btsync '$magnet' by-magnet"
start=$(date +%s)
"$btsync" "$magnet" "$demo/by-magnet" --no-dht --no-lsd --no-port-mapping --listen-port 50001-59999
end=$(date +%s)

cmp "$demo/source/payload.bin" "$demo/by-magnet/payload.bin" || give_up "the bytes differ" "$demo/seeder.log"
say "the same again from nothing but a link, in about $((end - start)) s"

# The service asks nobody outside of this machine.
mkdir -p "$demo/state" "$demo/watch"
printf '{"network": {"dht": false, "lsd": false}}' >"$demo/state/settings.json"
# The service takes no folder that it did not mark as its own.
printf 'This folder' >"$demo/state/lock"
say "btsync serve --dir served --watch watch   (in the background)"
"$btsync" serve --no-port-mapping --dir "$demo/served" --state-dir "$demo/state" --watch "$demo/watch" --web-listen 127.0.0.1:0 --peer-port 0 2>"$demo/serve.log" &
service=$!
helpers+=("$service")
wait_for "the page is at" "$demo/serve.log" "$service" || give_up "the service does not start" "$demo/serve.log"
say "$(sed -n 's/^the page is at /open /p' "$demo/serve.log") in a browser: a torrent appears and turns green; the demo ends in $seconds s"
sleep "$((seconds / 4))"
cp "$demo/payload.torrent" "$demo/watch/.payload" && mv "$demo/watch/.payload" "$demo/watch/payload.torrent"
sleep "$((seconds - seconds / 4))"
tries=300
until cmp -s "$demo/source/payload.bin" "$demo/served/payload.bin"; do
    kill -0 "$service" 2>/dev/null && [ $((tries -= 1)) -gt 0 ] || give_up "the service has not downloaded it" "$demo/serve.log"
    sleep 0.1
done
say "downloaded by the service, too, and compared byte by byte"
