#!/usr/bin/env bash
# Tests the SHA-1 kernels for 64-bit ARM on another machine, under qemu: cross-hash-test.sh [CHECKOUT]. Runs the unit tests of
# src/hash.rs on a processor with SHA1 instructions and on one without, and checks which kernels each of them detects.
# Everything is built in a temporary folder: a small crate that has only this module, because the tests of the whole library take
# longer and need more. The compiler is the usual one if it has the standard library for 64-bit ARM
# (rustup target add aarch64-unknown-linux-gnu), otherwise Debian's rustc-web, unpacked in that folder; DEBIAN_RUST=yes prefers it.
# As root on Debian or Ubuntu it installs missing programs (qemu, a cross compiler for linking); otherwise it only lists them.
# Exit code: 0 if all tests passed on both processors and each used the right kernels.
set -euo pipefail
checkout=$(realpath "${1:-$(dirname "$0")/..}")

readonly TARGET=aarch64-unknown-linux-gnu
readonly PACKAGES="qemu-aarch64:qemu-user aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu gcc:gcc"
readonly LIBRARIES=/usr/aarch64-linux-gnu

say() { printf 'cross-hash-test: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[ "$(uname -m)" != aarch64 ] || fail "this is such a machine: cargo test tests its kernels"
[ -f "$checkout/src/hash.rs" ] || fail "no src/hash.rs in $checkout"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install_missing() {
    local missing=() pair
    for pair in $PACKAGES; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    [ -e "$LIBRARIES/include/stdlib.h" ] || missing+=(libc6-dev-arm64-cross)
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "missing, and only root on Debian or Ubuntu can install them here: ${missing[*]}"
    fi
    say "installing with apt-get: ${missing[*]}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}"; } \
        >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "apt-get failed"; }
}

# apt-get or apt-cache with package lists of its own, which also have the packages for arm64. The system's stay as they are.
private_apt() {
    local program=$1 architecture=$2 state="$work/apt"
    shift 2
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    touch "$state/status"
    "$program" -o Dir::State::lists="$state/lists" -o Dir::State::status="$state/status" -o Dir::Cache="$state/cache" \
        -o APT::Architecture="$architecture" -o APT::Architectures="$architecture" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -q "$@"
}

# The package that $1 depends on and whose name matches $2.
dependency() {
    private_apt apt-cache "$host" depends "$1" | sed -n "s/^ *Depends: \\($2\\)\$/\\1/p" | sed -n 1p
}

# Debian's compiler and its standard library for this machine and for arm64, unpacked in $work/rust.
unpack_debian_rust() {
    local runtime llvm package host
    host=$(dpkg --print-architecture)
    mkdir -p "$work/packages" "$work/rust"
    cd "$work/packages"
    private_apt apt-get "$host" update
    runtime=$(dependency libstd-rust-web-dev 'libstd-rust-web-[0-9.]*')
    llvm=$(dependency "$runtime" 'libllvm[0-9.]*')
    private_apt apt-get "$host" download rustc-web libstd-rust-web-dev "$runtime" "$llvm"
    private_apt apt-get arm64 update
    private_apt apt-get arm64 download libstd-rust-web-dev
    for package in *.deb; do
        dpkg -x "$package" "$work/rust"
    done
    # The compiler's own libraries lie where only an installed one would look for them.
    cat >"$work/rust/rustc" <<'END'
#!/bin/sh
root=$(dirname "$0")
LD_LIBRARY_PATH=$(echo "$root"/usr/lib/*-linux-gnu) exec "$root/usr/bin/rustc" "$@"
END
    chmod 755 "$work/rust/rustc"
}

# Whether the compiler has the standard library for the target.
has_target() {
    local libraries
    libraries=$("${RUSTC:-rustc}" --print target-libdir --target "$TARGET" 2>/dev/null) \
        && compgen -G "$libraries/libstd-*.rlib" >/dev/null
}

choose_compiler() {
    if [ "${DEBIAN_RUST:-no}" = no ] && has_target; then
        return
    fi
    command -v dpkg >/dev/null || fail "no standard library for the target: rustup target add $TARGET"
    say "unpacking Debian's rustc-web"
    (unpack_debian_rust) >"$work/rust.log" 2>&1 || true
    export RUSTC="$work/rust/rustc"
    has_target || { cat "$work/rust.log" >&2; fail "that failed; the other way is rustup target add $TARGET"; }
}

# A crate with this module and the helpers that it uses, with the project's edition and versions of crates.
make_crate() {
    mkdir -p "$work/crate/src/util"
    cp -R "$checkout/src/hash.rs" "$checkout/src/hash" "$work/crate/src/"
    cp "$checkout/src/util/atomics.rs" "$checkout/src/util/slab.rs" "$work/crate/src/util/"
    cp "$checkout/Cargo.lock" "$work/crate/"
    {
        printf '[package]\nname = "cross-hash-test"\n'
        grep -E '^edition = ' "$checkout/Cargo.toml"
        printf '[workspace]\n[profile.dev]\nopt-level = 1\n[dependencies]\n'
        grep -E '^(sha1|fastrand|parking_lot|proptest) = ' "$checkout/Cargo.toml"
    } >"$work/crate/Cargo.toml"
    {
        printf 'pub mod hash;\n\npub mod util {\n    pub mod atomics;\n    pub mod slab;\n}\n\npub mod types {\n'
        grep -E '^pub type Sha1Hash = ' "$checkout/src/types.rs"
        cat <<'END'
}

#[test]
fn detected_kernels() {
    for kernel in hash::Kernel::detect() {
        println!("\nkernel: {kernel}");
    }
}
END
    } >"$work/crate/src/lib.rs"
}

# All models of processors in qemu have SHA1 instructions. This library hides them from a program that asks for them.
make_hiding_library() {
    cat >"$work/hide.c" <<'END'
#include <elf.h>
#include <sys/auxv.h>

enum { SHA1 = 1 << 5, SHA2 = 1 << 6 };

unsigned long __getauxval(unsigned long type);

unsigned long getauxval(unsigned long type)
{
    unsigned long value = __getauxval(type);
    return type == AT_HWCAP ? value & ~(unsigned long)(SHA1 | SHA2) : value;
}
END
    aarch64-linux-gnu-gcc -O1 -shared -fPIC -o "$work/crate/hide.so" "$work/hide.c"
}

# Runs the tests with these options of qemu. Sets $kernels to the kernels that were found, $translated to the number of SHA1
# instructions in the code that was reached: qemu writes it down when it translates it.
run_tests() {
    qemu-aarch64 -L "$LIBRARIES" "$@" "$tests" --exact detected_kernels --nocapture >"$work/kernels.log" \
        || { cat "$work/kernels.log" >&2; fail "the kernels cannot be detected"; }
    kernels=$(sed -n 's/^kernel: //p' "$work/kernels.log" | paste -sd ';' | sed 's/;/; /g')
    qemu-aarch64 -L "$LIBRARIES" -d in_asm -D "$work/code.log" "$@" "$tests" --test-threads=1
    translated=$(grep -cE '[[:space:]]sha1(c|h|m|p|su0|su1)[[:space:]]' "$work/code.log" || true)
    say "qemu $*: $kernels. SHA1 instructions reached: $translated"
}

install_missing
choose_compiler
make_crate
make_hiding_library
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CARGO_TARGET_DIR="$work/target"
cd "$work/crate"
say "building with $("${RUSTC:-rustc}" --version)"
cargo test --quiet --lib --no-run --target "$TARGET" --message-format=json-render-diagnostics >"$work/build.json"
tests=$(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$work/build.json")

run_tests -cpu max
[[ $kernels == *"(NEON)"* && $kernels == *"2 streams (SHA1 instructions)"* && $kernels == *"4 streams (SHA1 instructions)"* ]] \
    || fail "a kernel is missing"
[ "$translated" -gt 0 ] || fail "the kernels have no SHA1 instructions, or this qemu does not name them"

# Programs think that this one has none, like that of the Raspberry Pi 4.
run_tests -cpu cortex-a72 -E LD_PRELOAD=./hide.so
[[ $kernels == *"(NEON)"* && $kernels != *"SHA1 instructions"* ]] || fail "wrong kernels for a processor without SHA1 instructions"
[ "$translated" -eq 0 ] || fail "SHA1 instructions were used on a processor that has none"
say "passed"
