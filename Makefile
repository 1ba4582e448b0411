# make run, make test: each works as the first command after a clone (Python >= 3.11 with venv, make; no root).
#
#   make run        set up, then a demonstration: control plane, DNS, a real Envoy and two services
#   make test       set up, then every check: format, lint, types, layers, tests
#   make test-long  the same with the full counts of packets, kills, damaged stores (up to an hour)
#   make test-kubernetes  the tests with a real CoreDNS and API server, which are built first (needs Go, 15 minutes once)
#   make bench      measure beside other servers, half an hour on a quiet machine with two cores (bench/README.md);
#                   needs dnsperf and a C compiler; says which servers are missing, and how to get them
#   make lock       resolve the dependencies anew (needs uv; only when pyproject.toml changed)
#   make clean      remove what the others made
#
# PYTHON=python3.12 chooses the interpreter, PYTEST='-k store -x' adds to pytest's words, BENCH=--quick to bench's.
# WORKERS=2 runs fewer tests beside each other; three suit two cores, since half of the time is spent waiting.

PYTHON ?= python3
UV ?= uv
PYTEST ?=
WORKERS ?= 3
BENCH ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet
INSTALL := $(PIP) install --require-hashes --no-deps
PROJECT := $(PIP) install --no-deps --no-build-isolation --editable .

.DEFAULT_GOAL := help
.PHONY: help run test test-long test-kubernetes bench lint lock clean

help:
	@sed -n 's/^#   //p' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: '$(PYTHON)' is missing or older than Python 3.11; name another: make PYTHON=python3.13 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "make: '$(PYTHON)' cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The stamps are touched last: what was broken off begins anew.
$(VENV)/.run: $(VENV)/.made requirements.lock requirements-build.lock pyproject.toml
	$(INSTALL) -r requirements.lock -r requirements-build.lock
	$(PROJECT)
	@touch $@

$(VENV)/.test: $(VENV)/.made requirements-dev.lock pyproject.toml
	$(INSTALL) -r requirements-dev.lock
	$(PROJECT)
	@touch $@ $(VENV)/.run

run: $(VENV)/.run
	@exec $(BIN)/meshdns demo

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy $$(find tests -name '*.py' ! -name 'test_*.py' ! -path '*/tools/*')
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST)

test-long: export MESHDNS_LONG = 1
test-long: lint
	$(BIN)/python -m pytest $(PYTEST)

test-kubernetes: export MESHDNS_REQUIRE = coredns,kube-apiserver
test-kubernetes: $(VENV)/.test
	.ci/coredns
	.ci/kube
	$(BIN)/python -m pytest tests/kubernetes tests/real/test_coredns.py tests/real/test_kubernetes.py $(PYTEST)

bench: $(VENV)/.test
	@command -v dnsperf >/dev/null && command -v cc >/dev/null || \
	  { echo "make bench: needs dnsperf and cc; on Debian and Ubuntu: apt-get install dnsperf gcc libc6-dev" >&2; exit 1; }
	$(BIN)/python -m bench $(BENCH)

COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --upgrade
lock:
	@command -v $(UV) >/dev/null || { echo "make lock: needs uv: pipx install uv" >&2; exit 1; }
	$(UV) $(COMPILE) pyproject.toml --output-file requirements.lock
	$(UV) $(COMPILE) pyproject.toml --group dev --output-file requirements-dev.lock
	$(UV) $(COMPILE) --group build --output-file requirements-build.lock

clean:
	rm -rf $(VENV) meshdns-data dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
