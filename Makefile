# The usual verbs. `make run` shows the program at work; `make test` runs every test.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: build run test bench compare-swarms soak check fuzz tsan install uninstall static deb clean

build:
	$(CARGO) build --release

# A tracker, a seeder and a download on loopback, before your eyes. DEMO_MB=2000 makes it longer.
run: build
	scripts/demo.sh

# Every test. SETUP=no leaves the machine as it is: nothing is installed, and a test that misses a program fails and names it.
# nohup and `make test &` have signals ignored, and what a test starts would inherit that: they get their usual effect back.
SETUP ?= yes
USUAL_SIGNALS := $(shell env --default-signal=HUP,INT,QUIT true 2>/dev/null && echo env --default-signal=HUP,INT,QUIT)

# Some optimisation, as SHA-1 without any is slow; overflow checks and debug assertions stay on.
test: export CARGO_PROFILE_DEV_OPT_LEVEL = 1
test:
	[ "$(SETUP)" = no ] || scripts/test-setup.sh || test "$$CI" != true
	$(USUAL_SIGNALS) $(CARGO) test --no-fail-fast

# Every measurement: micro, loopback, startup, tracker; `make bench BENCH=micro ARGS=picker` for some. On a machine that is idle.
# BENCH_MIB and BENCH_ROUNDS size the loopback run.
BENCH ?= *
bench:
	$(CARGO) bench --bench '$(BENCH)' -- $(ARGS)

# btsync beside libtorrent, Transmission, qBittorrent and aria2 in difficult swarms, each in a network of its own: a table, after about
# more than an hour. `make compare-swarms SCENARIOS=mixed,stallers` for some; benches/compare/compare.py --list names them.
SCENARIOS ?=
compare-swarms: build
	python3 benches/compare/compare.py $(SCENARIOS)

# Downloads that are killed, stalled, spoiled and starved for half an hour; SOAK_MINUTES and SOAK_MB make it shorter.
soak: build
	scripts/soak.sh

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --quiet
	scripts/deny.sh

# Every target for a minute, with a nightly compiler: `make fuzz FUZZ_SECONDS=600 TARGETS=mse` for one of them and longer.
fuzz:
	scripts/fuzz.sh $(TARGETS)

# The swarm and the piece manager under the thread sanitizer (nightly, rust-src).
tsan:
	scripts/tsan.sh

# BIN: a program that is there already; without it one is built. Where it goes: PREFIX, below DESTDIR for a package.
BIN ?=
INSTALL ?= install
BUILT := $(or $(BIN),$(TARGET_DIR)/release/btsync)
BINDIR ?= $(PREFIX)/bin
DATADIR ?= $(PREFIX)/share
DOCDIR ?= $(DATADIR)/doc/btsync
UNITDIR ?= $(PREFIX)/lib/systemd/system
BASH_COMPLETIONS ?= $(DATADIR)/bash-completion/completions
ZSH_COMPLETIONS ?= $(DATADIR)/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
FISH_COMPLETIONS ?= $(DATADIR)/fish/vendor_completions.d
DOCUMENTS := README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT

install: $(if $(BIN),,build)
	$(INSTALL) -D -m 755 "$(BUILT)" "$(DESTDIR)$(BINDIR)/btsync"
	$(INSTALL) -D -m 644 docs/btsync.1 "$(DESTDIR)$(DATADIR)/man/man1/btsync.1"
	$(INSTALL) -D -m 644 completions/btsync.bash "$(DESTDIR)$(BASH_COMPLETIONS)/btsync"
	$(INSTALL) -D -m 644 completions/_btsync "$(DESTDIR)$(ZSH_COMPLETIONS)/_btsync"
	$(INSTALL) -D -m 644 completions/btsync.fish "$(DESTDIR)$(FISH_COMPLETIONS)/btsync.fish"
	$(INSTALL) -d -m 755 "$(DESTDIR)$(DOCDIR)" "$(DESTDIR)$(UNITDIR)"
	$(INSTALL) -m 644 $(DOCUMENTS) "$(DESTDIR)$(DOCDIR)"
	sed 's|/usr/bin/btsync|$(BINDIR)/btsync|' packaging/btsync@.service >"$(DESTDIR)$(UNITDIR)/btsync@.service"
	chmod 644 "$(DESTDIR)$(UNITDIR)/btsync@.service"

# With the PREFIX and DESTDIR of the installation. Folders stay, except our own.
uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/btsync" "$(DESTDIR)$(DATADIR)/man/man1/btsync.1" "$(DESTDIR)$(UNITDIR)/btsync@.service"
	rm -f "$(DESTDIR)$(BASH_COMPLETIONS)/btsync" "$(DESTDIR)$(ZSH_COMPLETIONS)/_btsync"
	rm -f "$(DESTDIR)$(FISH_COMPLETIONS)/btsync.fish" $(DOCUMENTS:%="$(DESTDIR)$(DOCDIR)/%")
	test ! -d "$(DESTDIR)$(DOCDIR)" || rmdir --ignore-fail-on-non-empty "$(DESTDIR)$(DOCDIR)"

# A program that needs no shared library; README.md says why with glibc. Its path is printed. STATIC_TARGET names another target.
# With --target the flag is for the program alone: procedural macros and build scripts cannot be static.
PROFILE ?= release
STATIC_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')
static:
	RUSTFLAGS="$$RUSTFLAGS -C target-feature=+crt-static" \
		$(CARGO) build --locked --bin btsync --profile $(PROFILE) --target $(STATIC_TARGET)
	@echo "$(TARGET_DIR)/$(STATIC_TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/btsync"

# A Debian package in DEB_DIR, for this machine's release and architecture.
DEB_DIR ?= $(TARGET_DIR)
deb: $(if $(BIN),,build)
	@scripts/deb.sh "$(BUILT)" "$(DEB_DIR)"

clean:
	$(CARGO) clean
	rm -rf .demo fuzz/target fuzz/corpus fuzz/artifacts
