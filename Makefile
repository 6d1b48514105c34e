# `make demo` and `make test` do everything, set-up included, from a bare clone with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PEERS = $(or $(PIXELPROOF_BENCH_DATA),$(HOME)/.cache/pixelproof-bench)/peers

.DEFAULT_GOAL := help
.PHONY: help demo test test-cloud lint format types layers check bench lambda lock clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/ready ## The main job, end to end, on local stand-ins for the three ESPs (ARGS="--recipients 20000")
	@$(BIN)/pixelproof demo $(ARGS)

test: $(VENV)/ready ## All tests (ARGS="-k consent")
	@$(BIN)/pytest --numprocesses auto --dist loadfile $(ARGS)

test-cloud: $(VENV)/ready ## What terraform/ deploys, end to end in a local AWS (needs terraform and ministack)
	@$(BIN)/pytest tests/cloud $(ARGS)

lint: $(VENV)/ready ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/ready ## Mend style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/ready ## Static types
	$(BIN)/mypy

layers: $(VENV)/ready ## Who may import whom
	$(BIN)/lint-imports

check: lint types layers test ## All of these

bench: $(VENV)/ready $(PEERS)/ready ## What is claimed to be fast, against its peers, one line of JSON each (ONLY=import_callbacks)
	@status=0; for file in benchmarks/bench_$(or $(ONLY),*).py; do \
		$(BIN)/python -m benchmarks.$$(basename $$file .py) || status=1; done; exit $$status

lock: ## Resolve the requirements anew, with hashes and without addresses (needs uv)
	$(LOCK) pyproject.toml --output-file requirements/runtime.txt
	$(LOCK) pyproject.toml --group dev --output-file requirements/dev.txt
	$(LOCK) requirements/bench.in --output-file requirements/bench.txt
	$(LOCK) requirements/spark.in --output-file requirements/spark.txt
	$(RESOLVE) requirements/lambda.in --python-platform linux --constraints requirements/runtime.txt \
		--output-file requirements/lambda.txt

RESOLVE = uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url
LOCK = $(RESOLVE) --upgrade --universal

lambda: $(VENV)/ready ## The zips that terraform/ deploys, into dist/lambda (ARGS="--architecture arm64")
	@$(BIN)/python terraform/lambda/build.py $(ARGS)

clean: ## Remove what was made here, the demo's data included
	rm -rf $(VENV) demo-data artifacts build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/ready: requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.12 …")'
	@echo "setting up $(VENV) (once) …" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(PEERS)/ready: requirements/bench.txt
	@echo "setting up the peers' environment in $(PEERS) (once) …" >&2
	@rm -rf $(PEERS)
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.txt
	@touch $@
