# The usual targets: `make run` is a demo, `make test` runs every test. CONTRIBUTING.md lists all of them.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

.PHONY: build run docs test page-test bench-service bench-seeks bench-web-seed bench-utp utp-figures bench compare compare-swarms soak check lint deny msrv fuzz tsan cross-hash-test install uninstall static deb clean

build:
	$(CARGO) build --release

# A demo on loopback: a tracker, a seeder and two downloads. DEMO_MB=2000 makes it longer.
run: build
	scripts/demo.sh

# Every test. With SETUP=no, nothing is installed. A test that lacks a program is reported as NOT RUN; with CI=true it fails.
# nohup and `make test &` ignore some signals, and programs that a test starts would inherit this: restore the default handlers.
SETUP ?= yes
USUAL_SIGNALS := $(shell env --default-signal=HUP,INT,QUIT true 2>/dev/null && echo env --default-signal=HUP,INT,QUIT)

# Optimise a little, because SHA-1 is slow without it. Overflow checks and debug assertions stay on.
test: export CARGO_PROFILE_DEV_OPT_LEVEL = 1
test:
	[ "$(SETUP)" = no ] || scripts/test-setup.sh || test "$$CI" != true
	$(USUAL_SIGNALS) $(CARGO) test --no-fail-fast

# All tests of the page with a mock service, also those that measure time. Use an idle machine.
page-test:
	node tests/page/run.mjs

# Memory, processor time and response times of a service with 1,000 torrents. Use an idle machine.
bench-service: build
	unshare -rn sh -c 'ip link set lo up && exec scripts/bench-service.py'

# How long a player waits after a seek in a file that downloads from four slow seeds. Takes six minutes.
bench-seeks: build
	unshare -rn sh -c 'ip link set lo up && exec scripts/measure-seeks.py'

# Writes what is generated from the option table: completions, docs/options.md, docs/config.example, the manual's lists of options.
docs:
	UPDATE_DOCS=1 $(CARGO) test --bin btsync --quiet generated_files_are_up_to_date

# A download from one web seed beside curl, and what hashing costs alone. Use an idle machine.
bench-web-seed: build
	unshare -rn sh -c 'ip link set lo up && exec scripts/bench-web-seed.py'

# uTP over a lossy path, on loopback and beside TCP, compared with libtorrent and Transmission, and the wake-ups of an idle connection.
# `make bench-utp PARTS=loss` measures one of them; scripts/measure-utp.py names them. Takes half an hour. Use an idle machine.
PARTS ?=
bench-utp: build
	unshare -rn sh -c 'ip link set lo up && exec scripts/measure-utp.py $(PARTS)'

# Throughput, delays and shares of uTP in a simulated network: the figures in docs/dev/utp.md.
utp-figures:
	$(CARGO) test --release --lib utp::tests -- --ignored --nocapture

# All benchmarks: micro, loopback, startup, tracker. `make bench BENCH=micro ARGS=picker` runs some. Use an idle machine.
# BENCH_MIB and BENCH_ROUNDS size the loopback run.
BENCH ?= *
bench:
	$(CARGO) bench --bench '$(BENCH)' -- $(ARGS)

# Throughput beside other clients and the least that a correct client must do, on loopback, with charts of CPU and wall time in docs/pictures.
# `make compare SCENARIOS=d1,check CLIENTS=floor,btsync RUNS=3` measures less; benches/compare/throughput/throughput.py --help names them.
CLIENTS ?= floor,btsync,libtorrent,aria2
RUNS ?= 5
compare: build
	scripts/compare.sh "$(or $(SCENARIOS),d1,d20,s1,s20,s200,check,create,rtt1,rtt10,rate50,stall,bad5,swarm,files,idle200)" "$(CLIENTS)" $(RUNS)

# Compares btsync with libtorrent, Transmission, qBittorrent and aria2 in difficult swarms, each in its own network namespace. Takes
# more than an hour. `make compare-swarms SCENARIOS=mixed,stallers` runs some scenarios; benches/compare/compare.py --list names them.
SCENARIOS ?=
compare-swarms: build
	python3 benches/compare/compare.py $(SCENARIOS)

# Downloads with injected faults for half an hour: kills, stalls, corrupt data, a full disk. SOAK_MINUTES and SOAK_MB make it shorter.
soak: build
	scripts/soak.sh

check: lint deny

# Formatting, clippy and API documentation; warnings are errors.
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --lib --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --lib --quiet

# Licences, sources, banned crates and advisories.
deny:
	scripts/deny.sh

# Whether the program still builds with the oldest Rust of Cargo.toml: run it with that toolchain, `rustup run 1.89 make msrv`.
msrv:
	$(CARGO) check --locked --lib --bins

# The hash kernels for 64-bit ARM under qemu, with and without SHA1 instructions. Installs qemu-user and a cross compiler.
cross-hash-test:
	scripts/cross-hash-test.sh

# Every fuzz target for a minute, with a nightly compiler. `make fuzz FUZZ_SECONDS=600 TARGETS=mse` runs one of them for longer.
fuzz:
	scripts/fuzz.sh $(TARGETS)

# The tests of swarms and of the piece manager under the thread sanitizer. Needs a nightly compiler with rust-src.
tsan:
	scripts/tsan.sh

# BIN names an existing program; without it, one is built. It is installed below PREFIX, and for a package below DESTDIR.
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
UNITS := btsync@.service btsync-serve.service btsync-serve.socket
DOCUMENTS := README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT
# The pages that README.md links to, with what they link to.
PAGES := $(wildcard docs/*.md docs/pictures/*) docs/config.example docs/events.schema.json

install: $(if $(BIN),,build)
	$(INSTALL) -D -m 755 "$(BUILT)" "$(DESTDIR)$(BINDIR)/btsync"
	$(INSTALL) -D -m 644 docs/btsync.1 "$(DESTDIR)$(DATADIR)/man/man1/btsync.1"
	$(INSTALL) -D -m 644 completions/btsync.bash "$(DESTDIR)$(BASH_COMPLETIONS)/btsync"
	$(INSTALL) -D -m 644 completions/_btsync "$(DESTDIR)$(ZSH_COMPLETIONS)/_btsync"
	$(INSTALL) -D -m 644 completions/btsync.fish "$(DESTDIR)$(FISH_COMPLETIONS)/btsync.fish"
	$(INSTALL) -d -m 755 "$(DESTDIR)$(DOCDIR)" "$(DESTDIR)$(UNITDIR)"
	$(INSTALL) -m 644 $(DOCUMENTS) "$(DESTDIR)$(DOCDIR)"
	for page in $(PAGES); do $(INSTALL) -D -m 644 "$$page" "$(DESTDIR)$(DOCDIR)/$$page" || exit 1; done
	for unit in $(UNITS); do \
		sed 's|/usr/bin/btsync|$(BINDIR)/btsync|' "packaging/$$unit" >"$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
		chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	done

# Use the PREFIX and DESTDIR of the installation. Folders stay, except our own.
uninstall:
	rm -f "$(DESTDIR)$(BINDIR)/btsync" "$(DESTDIR)$(DATADIR)/man/man1/btsync.1" $(UNITS:%="$(DESTDIR)$(UNITDIR)/%")
	rm -f "$(DESTDIR)$(BASH_COMPLETIONS)/btsync" "$(DESTDIR)$(ZSH_COMPLETIONS)/_btsync"
	rm -f "$(DESTDIR)$(FISH_COMPLETIONS)/btsync.fish" $(DOCUMENTS:%="$(DESTDIR)$(DOCDIR)/%") $(PAGES:%="$(DESTDIR)$(DOCDIR)/%")
	for folder in docs/pictures docs .; do \
		test ! -d "$(DESTDIR)$(DOCDIR)/$$folder" || rmdir --ignore-fail-on-non-empty "$$(realpath "$(DESTDIR)$(DOCDIR)/$$folder")"; \
	done

# Builds a program that needs no shared library, and prints its path. docs/install.md says why it uses glibc. STATIC_TARGET names another
# target. With --target, the flag applies to the program only: procedural macros and build scripts cannot be static.
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
