# make demo    shows pgfanout at work: a primary, two replicas and a broker of its own. KEEP=1 keeps them
# make test    the gate: set-up, format, lints, documentation, licences, build, all tests
# make large   the tests that take minutes and gigabytes: rows of 260 MB, a million changes, twenty replicas
# make samples the public databases Pagila, Chinook and pgexercises in DIR, a directory for each, are replicated
# make test-versions
#              the integration tests against PostgreSQL 13 to 18, the replicas' version another than the primary's. The
#              servers are packages of npm. PAIRS="13:18 17:17": of the primary and of the replicas. TESTS="exact::
#              types::": which tests
# make deb     a Debian package in target/debian, by cargo-deb
# make test-deb
#              installs, starts, upgrades and removes it in a copy of this system that is thrown away; as root
# make bench   speed against the bare primary and logical replication, some 40 minutes on a quiet machine.
#              WORKLOADS=B1,B4 SECONDS=10 ROUNDS=3 CLIENTS=4,16 SCALE=10 say what of it; see target/bench
# make soak    faults at random under load. SECONDS=600: for how long. SEED=1: the choices of an earlier run
# make fuzz    random schemas, statements and faults, for SECONDS=300. SEED=1: the cases of an earlier run

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
# Where rustup puts it, for shells that have not read its settings.
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: bench deb demo fuzz test test-deb test-versions soak large samples setup

# Optimized, but without the optimization across crates, which takes most of the time of a release build.
demo: export CARGO_PROFILE_RELEASE_LTO := off
demo: export CARGO_PROFILE_RELEASE_CODEGEN_UNITS := 16
demo: setup
	cargo build --locked --release --workspace --bins
	cargo run --locked --release --quiet --package pgfanout-testbed --bin demo -- $(if $(KEEP),--keep)

test: setup
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --workspace
	tests/dependencies.sh
	cargo build --locked --workspace
	tests/run.sh

test-versions: export PAIRS := $(PAIRS)
test-versions: export TESTS := $(TESTS)
test-versions: setup
	tests/versions.sh

# One at a time: each takes gigabytes of memory and disk.
large: export PGFANOUT_ALARM_SECONDS := $(or $(SECONDS),180)
large: setup
	cargo test --locked --test integration -- --ignored --nocapture --test-threads=1 --skip samples::
	cargo test --locked --test integration -- --nocapture a_broker_that_accepts_nothing

samples: export PGFANOUT_SAMPLES := $(abspath $(DIR))
samples: setup
	@test -d "$(DIR)" || { echo "make samples: DIR names no directory: it needs pagila, chinook and pgexercises"; exit 1; }
	cargo test --locked --test integration -- --ignored samples::

deb:
	@command -v cargo-deb >/dev/null || { echo "make deb: needs cargo-deb: cargo install --locked cargo-deb"; exit 1; }
	cargo build --locked --release --package pgfanout --bin pgfanout
	mkdir -p target/deb
	target/release/pgfanout man >target/deb/pgfanout.1
	for shell in bash zsh fish; do target/release/pgfanout completions $$shell >target/deb/pgfanout.$$shell; done
	cargo deb --no-build --locked

test-deb:
	tests/package.sh

bench: export PGFANOUT_BENCH_WORKLOADS := $(WORKLOADS)
bench: export PGFANOUT_BENCH_SECONDS := $(SECONDS)
bench: export PGFANOUT_BENCH_ROUNDS := $(ROUNDS)
bench: export PGFANOUT_BENCH_CLIENTS := $(CLIENTS)
bench: export PGFANOUT_BENCH_SCALE := $(SCALE)
bench: setup
	cargo bench --locked --bench bench

soak: export PGFANOUT_SOAK_SECONDS := $(or $(SECONDS),600)
soak: export PGFANOUT_SOAK_SEED := $(SEED)
soak: setup
	cargo test --locked --test integration -- --exact soak::soak --nocapture

fuzz: export PGFANOUT_FUZZ_SECONDS := $(or $(SECONDS),300)
fuzz: export PGFANOUT_FUZZ_SEED := $(SEED)
fuzz: setup
	cargo test --locked --test integration -- --exact fuzz::fuzz --nocapture

setup:
	@tests/setup.sh
