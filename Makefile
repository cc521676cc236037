# The verbs of this repository. `make` alone prints them.
#
# What a verb needs from outside is fetched by ci/tools.sh into .tools/ (kept between runs).

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test check cluster cluster-down bench bench-gate tools release pgo

# Tools fetched for this project come before those of the machine.
export PATH := $(CURDIR)/.tools/bin:$(PATH)

TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
CONFIG ?= conf/config.yaml

help: ## Prints this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Builds and starts one node in the foreground (CONFIG=conf/config.yaml)
	@ci/tools.sh build
	cargo build --locked --profile quick
	exec $(TARGET)/quick/sluice start -c $(CONFIG)

test: ## Runs every test, against real etcd and OpenBao
	@ci/tools.sh test
	cargo test --locked

check: ## Formatting, clippy without warnings, licences and bans, the house rules
	@ci/tools.sh check
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo-deny --locked check --hide-inclusion-graph bans licenses sources
	cargo test --locked --test t house::

cluster: ## Starts three etcd members and two gateway nodes on loopback
	@ci/tools.sh cluster
	cargo build --locked --profile quick
	@ci/cluster.sh up $(TARGET)/quick/sluice

cluster-down: ## Stops what `make cluster` started; its data stays in data/cluster
	@ci/cluster.sh down

bench: ## Measures speed against other proxies, some minutes (BENCH="W1 W4 --rounds 9")
	@ci/tools.sh bench
	cargo bench --locked --bench bench -- $(BENCH)

bench-gate: ## Counts instructions a request against ci/bench-gate.json (RECORD=1 sets it; BENCH=W6)
	@ci/tools.sh gate
	cargo bench --locked --bench bench -- gate $(BENCH) $(if $(RECORD),--record)

tools: ## Fetches what every verb above needs into .tools/
	@ci/tools.sh all

release: ## Builds the fully optimised binary (slow: whole-program optimisation)
	@ci/tools.sh build
	cargo build --locked --release
	@echo "built $(TARGET)/release/sluice"

pgo: ## Builds the release binary guided by a profile of the bench (two such builds, half an hour)
	@ci/tools.sh bench
	@ci/pgo.sh
