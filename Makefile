# What a developer and CI run. `make test` is the whole check; each step can be run on its own.

CARGO ?= cargo
CHECKED := --locked
# Of each fuzz target.
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))

# Only the soak tests whose names hold one of these words; empty = all.
SOAK_TESTS ?=

.PHONY: test tools format lint docs tests bench fuzz soak config package deny advisories
.NOTPARALLEL:

## test: everything that must pass, in the order that fails soonest
test: tools format lint docs tests
	@echo "== all checks passed"

## tools: install the real peers the tests talk to, or name what is missing
tools:
	@echo "== tools"
	@.ci/tools

## format: the code is formatted
format:
	@echo "== format"
	$(CARGO) fmt --all --check

## lint: clippy, warnings are errors
lint:
	@echo "== clippy"
	$(CARGO) clippy $(CHECKED) --all-targets -- -D warnings

## docs: the documentation builds, broken links are errors
docs:
	@echo "== docs"
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(CHECKED) --no-deps --document-private-items

## tests: all tests, with cargo-nextest when it is installed
tests:
	@echo "== tests"
	$(CARGO) test $(CHECKED) --doc
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		set -x; $(CARGO) nextest run $(CHECKED) --no-fail-fast; \
	else \
		set -x; $(CARGO) test $(CHECKED) --no-fail-fast; \
	fi

## bench: measurements, each prints what it did and how fast, and docs/benchmarks.md is rewritten; about a quarter of an hour
## on a quiet machine, and as long again to build from nothing. QUICK=1 only shows that all of it works, and rewrites nothing.
bench:
	$(CARGO) bench $(CHECKED) --bench '*'

## soak: crashes, outages, a full disk and clock steps under load, for minutes; docs/soak.md (in short they are among the tests)
soak: tools
	SOAK=full $(CARGO) test $(CHECKED) --test soak -- --nocapture --test-threads 1 $(SOAK_TESTS)

## fuzz: each fuzz target for a minute, from the fixtures on; what makes one fail is kept in tests/fuzz/artifacts
fuzz:
	@$(CARGO) fuzz --version >/dev/null 2>&1 || \
		{ echo "make fuzz needs cargo-fuzz; install it with: cargo install --locked cargo-fuzz" >&2; exit 1; }
	FUZZ_CORPUS=$(CURDIR)/target/fuzz/corpus $(CARGO) test $(CHECKED) --test fuzz seeds
	@cp Cargo.lock tests/fuzz/Cargo.lock
	@set -e; for target in $(FUZZ_TARGETS); do \
		echo "== fuzz $$target"; \
		$(CARGO) fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none \
			$$target target/fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1; \
	done

## config: the sample configuration and its page are made from the code
config:
	$(CARGO) build $(CHECKED)
	target/debug/hookswitch --print-defaults > systemd/hookswitch.toml
	target/debug/hookswitch --print-defaults=markdown > docs/configuration.md

## package: the Debian package, in target/debian
package:
	@$(CARGO) deb --version >/dev/null 2>&1 || \
		{ echo "make package needs cargo-deb; install it with: cargo install --locked cargo-deb" >&2; exit 1; }
	$(CARGO) build $(CHECKED) --release
	packaging/prepare target/release/hookswitch target/package
	$(CARGO) deb $(CHECKED) --no-build

## deny: licences and sources of all dependencies
deny:
	@$(CARGO) deny --version >/dev/null 2>&1 || \
		{ echo "make deny needs cargo-deny; install it with: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --locked check licenses bans sources

## advisories: known faults of dependencies; fetches the advisory database
advisories:
	$(CARGO) deny --locked check advisories
