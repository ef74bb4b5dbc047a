# The usual verbs. `make run` shows the program at work; `make test` runs every test.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: build run test bench soak check fuzz tsan install clean

build:
	$(CARGO) build --release

# A tracker, a seeder and a download on loopback, before your eyes. DEMO_MB=2000 makes it longer.
run: build
	scripts/demo.sh

# Some optimisation, as SHA-1 without any is slow; overflow checks and debug assertions stay on.
test: export CARGO_PROFILE_DEV_OPT_LEVEL = 1
test:
	scripts/test-setup.sh || test "$$CI" != true
	$(CARGO) test

# Every measurement: micro, loopback, startup; `make bench BENCH=micro ARGS=picker` for some. On a machine that is idle.
# BENCH_MIB and BENCH_ROUNDS size the loopback run.
BENCH ?= *
bench:
	$(CARGO) bench --bench '$(BENCH)' -- $(ARGS)

# Downloads that are killed, stalled, spoiled and starved for half an hour; SOAK_MINUTES and SOAK_MB make it shorter.
soak: build
	scripts/soak.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	scripts/deny.sh

# Every target for a minute, with a nightly compiler: `make fuzz FUZZ_SECONDS=600 TARGETS=mse` for one of them and longer.
fuzz:
	scripts/fuzz.sh $(TARGETS)

# The swarm and the piece manager under the thread sanitizer (nightly, rust-src).
tsan:
	scripts/tsan.sh

install: build
	install -D -m 755 target/release/btsync "$(DESTDIR)$(PREFIX)/bin/btsync"

clean:
	$(CARGO) clean
	rm -rf .demo fuzz/target fuzz/corpus fuzz/artifacts
