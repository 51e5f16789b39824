# What a machine can do with this tree; `make help` lists it. Needs the Rust toolchain of Cargo.toml's rust-version; the rest is
# installed by `make deps` (called by the others) as root on Debian, and named otherwise.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
PROGRAMS ?= target/release
# The bus looks for policies in these places only.
DBUS_POLICY_DIR ?= $(if $(filter /usr,$(PREFIX)),/usr/share,/etc)/dbus-1/system.d

# Debian's own packages have theirs in share/zsh/vendor-completions.
ZSH_COMPLETIONS_DIR ?= $(PREFIX)/share/zsh/site-functions

# The fast deflate, where its library is.
ISAL = $(shell [ "$$(uname -m)" = x86_64 ] && pkg-config --exists libisal 2>/dev/null && echo isal)
RELEASE_FEATURES = $(if $(ISAL),--features $(ISAL))
TEST_FEATURES = --features failpoints$(if $(ISAL),$(comma)$(ISAL))
comma := ,

.PHONY: all
all: deps ## build the programs (target/release)
	packaging/reproducible $(CARGO) build --release --locked $(RELEASE_FEATURES)

.PHONY: test
test: lint ## lint, then every test (about fifteen minutes on two cores)
	$(CARGO) test --locked $(TEST_FEATURES) --lib --bins --tests

.PHONY: lint
lint: deps ## formatting and clippy, warnings denied
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets $(TEST_FEATURES) -- -D warnings

.PHONY: test-long
test-long: all ## what takes more than half an hour: the memory of a 10 GB backup, a hundred thousand cases, PostgreSQL's regression database
	PROPTEST_CASES=100000 $(CARGO) test --locked $(TEST_FEATURES) --lib
	$(CARGO) test --locked $(TEST_FEATURES) --test integration -- --ignored
	benches/run.sh --memory-only --scale 8

.PHONY: bench
bench: all ## measure against pg_dump, gzip, zstd, restic; writes docs/benchmarks.md (under 15 minutes)
	CARGO="packaging/reproducible $(CARGO)" benches/run.sh

.PHONY: demo
demo: all ## back up, verify, restore and compare a sample database on a throwaway server
	tests/demo/demo.sh

.PHONY: install
install: ## install what `make all` built; DESTDIR= and PREFIX= as usual
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/libexec" "$(PROGRAMS)/backupd"
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/bin" "$(PROGRAMS)/backupctl"
	install -D -m 755 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system-generators" "$(PROGRAMS)/backupd-generator"
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system" "$(DESTDIR)$(PREFIX)/lib/sysusers.d" "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d"
	for unit in systemd/backupd*.service systemd/backupd*.timer; do \
	    sed 's|=/usr/|=$(PREFIX)/|' "$$unit" >"$(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}" || exit 1; \
	done
	install -m 644 systemd/backupd.sysusers.conf "$(DESTDIR)$(PREFIX)/lib/sysusers.d/backupd.conf"
	install -m 644 systemd/backupd.tmpfiles.conf "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/backupd.conf"
	install -D -m 644 -t "$(DESTDIR)$(DBUS_POLICY_DIR)" systemd/org.backupd1.conf
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/polkit-1/actions" systemd/org.backupd1.policy
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/polkit-1/rules.d" systemd/50-backupd-drill.rules
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/catalog" systemd/backupd.catalog
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/dbus-1/system-services" systemd/org.backupd1.service
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/dbus-1/interfaces" src/bus/org.backupd1.xml
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/backupd" packaging/prometheus/backupd.rules.yml
	install -D -m 644 -t "$(DESTDIR)$(PREFIX)/share/doc/backupd" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE docs/*.md
	cp -R --no-preserve=ownership docs/examples "$(DESTDIR)$(PREFIX)/share/doc/backupd/"
	install -D -m 644 packaging/completions/backupctl.bash "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/backupctl"
	install -D -m 644 -t "$(DESTDIR)$(ZSH_COMPLETIONS_DIR)" packaging/completions/_backupctl
	for page in docs/man/*.[1-8]; do \
	    install -D -m 644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}" || exit 1; \
	done

.PHONY: deb
deb: all ## build the Debian package (target/debian); the same programs give the same bytes
	packaging/build-deb

.PHONY: rpm
rpm: all ## build the RPM package (target/rpm), with rpmbuild; the same programs give the same bytes
	packaging/build-rpm

.PHONY: reproducible
reproducible: deps ## build the last commit twice, in folders of other names, and compare (twice as long as `make`)
	CARGO="$(CARGO)" packaging/compare-builds $(RELEASE_FEATURES)

.PHONY: deps
deps: ## install what building and testing need (root on Debian), or say what is missing
	@tests/scripts/install-dependencies

.PHONY: clean
clean: ## remove what was built
	$(CARGO) clean

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 14
