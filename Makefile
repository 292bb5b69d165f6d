# What a developer and CI run. `make test` is the whole check; each step can be run on its own.

CARGO ?= cargo
CHECKED := --locked

.PHONY: test tools format lint docs tests bench
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
		set -x; $(CARGO) nextest run $(CHECKED) --all-targets --no-fail-fast; \
	else \
		set -x; $(CARGO) test $(CHECKED) --all-targets --no-fail-fast; \
	fi

## bench: how fast it is, on this machine now; needs tshark, with which the replay is compared
bench:
	$(CARGO) bench $(CHECKED) --bench replay
