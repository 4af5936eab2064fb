# One environment, .venv, is made from pyproject.toml and constraints.txt; every other target runs inside it.
#   make env PYTHON=python3.12     picks the interpreter (3.10 or newer)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Touched after a successful installation, so that one is repeated only when what it depends on has changed.
STAMP := $(VENV)/.installed

# The main job, said once: what `make quickstart` runs inside the environment.
QUICKSTART := $(BIN)/sharpseq train quickstart

.DEFAULT_GOAL := help
.PHONY: help env quickstart test test-fast lint types format tables clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP)  ## Make .venv with everything that development needs

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing about 130 packages into $(VENV); torch is the largest. This takes one to ten minutes, once."
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -c constraints.txt -e '.[dev]'
	touch $(STAMP)

quickstart: env  ## Train, continue and compare a one-pass model on embedded data (about 6 minutes)
	$(QUICKSTART)

test: lint types  ## Check everything that continuous integration checks, on all cores
	$(BIN)/python -m pytest -n auto --dist worksteal

test-fast: env  ## What can be tested in about a minute, for while you work
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow" tests/unit tests/contracts tests/test_architecture.py

lint: env  ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: env  ## Check types
	$(BIN)/mypy --strict src

format: env  ## Rewrite files in the one format, mending what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

tables: env  ## Rewrite the tables of the documents that follow from declarations
	$(BIN)/python docs/write_tables.py

clean:  ## Remove the environment and what tools left behind; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
