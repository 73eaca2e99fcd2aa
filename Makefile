.DEFAULT_GOAL := help

.PHONY: help
help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what is missing (a Redis server) and say what was done
	@sh deploy/setup.sh

.PHONY: ci
ci: setup fmt-check lint test doc deny unused ## Everything a change must pass, fastest failure first

.PHONY: fmt
fmt: ## Format all code
	cargo fmt --all

.PHONY: fmt-check
fmt-check: ## Fail if anything is not formatted
	cargo fmt --all -- --check

.PHONY: lint
lint: ## Clippy, with warnings as errors
	cargo clippy --workspace --all-targets --all-features -- -D warnings

.PHONY: test
test: setup ## All tests
	cargo test --workspace

.PHONY: model
model: setup ## 10,000 random cases of the queue, with a crash at any Redis command, checked against a model
	MODEL_CASES=$${MODEL_CASES:-10000} cargo test --profile model --lib queue::model

.PHONY: fuzz
fuzz: ## Hostile jobs, headers, answers and files, FUZZ_SECONDS each (60); needs nightly, installs cargo-fuzz
	@sh fuzz/run.sh $${FUZZ_SECONDS:-60}

.PHONY: doc
doc: ## Rustdoc, with warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

.PHONY: demo
demo: setup ## A day of a shop, delivered to a local Klaviyo, with a summary
	cargo run -- dev --demo --once

.PHONY: dev
dev: setup ## Run everything locally, without a Klaviyo account, until Ctrl-C
	cargo run -- dev --demo

.PHONY: bench
bench: setup ## How fast events pass: a bare loop, the daemon, the queue alone
	cargo bench --bench throughput

.PHONY: chaos
chaos: setup ## The promises under kills, outages and overload, in full size (about an hour); prints required and seen
	cargo test --release --test chaos -- --long

.PHONY: deny
deny: ## Licences, sources and advisories of dependencies
	@cargo deny --version >/dev/null 2>&1 || cargo install --locked --version 0.20.2 cargo-deny
	sh deploy/deny.sh

.PHONY: unused
unused: ## Fail if a dependency is not used
	@cargo machete --version >/dev/null 2>&1 || cargo install --locked --version 0.9.2 cargo-machete
	cargo machete
