# `make` lists the targets. Everything works on a machine that has only Python >= 3.10 and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# pytest-xdist: one process per core; `make test JOBS=0` runs in this process.
JOBS ?= auto
PYTEST_ARGS ?=
BENCH_ARGS ?=
# The port of the Dagster UI: make ui PORT=3100
PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: help install run ui test test-fast test-postgres check format bench docs docs-site docs-serve clean

help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

install: $(INSTALLED) ## Make .venv and install the package with its development tools

# Made again when pyproject.toml changes. A virtual environment without pip is not kept.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 15))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); wanted Python 3.10 to 3.14, for example: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

run: $(INSTALLED) ## Sync real rows from a bundled API through Dagster into SQLite, and show them
	$(BIN)/python -m nango_dagster.demo

ui: $(INSTALLED) ## The same, and then the Dagster UI on PORT (3000), until Ctrl-C or SIGTERM
	$(BIN)/python -m nango_dagster.demo --ui --port $(PORT)

test: $(INSTALLED) ## All tests, on SQLite and on PostgreSQL: the fast ones first, then acceptance
	$(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

test-fast: $(INSTALLED) ## Only the fast tests
	$(BIN)/python -m pytest -n $(JOBS) -m "not acceptance" $(PYTEST_ARGS)

test-postgres: $(INSTALLED) ## Only the tests on PostgreSQL (NANGO_TEST_DB_URL: on your server)
	$(BIN)/python -m pytest -n $(JOBS) -m postgresql $(PYTEST_ARGS)

check: $(INSTALLED) ## What CI checks before the tests: format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED) ## Format the code and repair what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED) ## Measure records a second beside a hand-written loop and the bare limit, about 5 minutes
	$(BIN)/python -m benchmarks $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.for_each
	$(BIN)/python -m benchmarks.incremental
	$(BIN)/python -m benchmarks.scripts

docs: $(INSTALLED) ## Check that the documentation is true: examples, links, commands
	$(BIN)/python -m pytest -q tests/test_docs.py

docs-site: $(INSTALLED) ## Build the documentation site in the folder site; open site/index.html
	$(BIN)/zensical build --strict --clean

docs-serve: $(INSTALLED) ## Serve the documentation site and rebuild it after each change, until Ctrl-C
	$(BIN)/zensical serve

clean: ## Remove .venv, caches and the demo's data
	rm -rf $(VENV) .nango .cache build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
