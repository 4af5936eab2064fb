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
.PHONY: help env quickstart test lint types format clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP)  ## Make .venv with everything that development needs

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(STAMP)

quickstart: env  ## Train, continue and compare a one-pass model on embedded data (about 6 minutes)
	$(QUICKSTART)

test: lint types  ## Check everything that continuous integration checks
	$(BIN)/python -m pytest

lint: env  ## Check style and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: env  ## Check types
	$(BIN)/mypy --strict src

format: env  ## Rewrite files in the one format, mending what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## Remove the environment and what tools left behind; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +
