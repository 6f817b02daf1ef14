# What a person runs here. `make` alone says what there is.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench faults clean

# The first interpreter that is new enough; `make PYTHON=...` overrides it.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
CHECKED := src tests bench scripts examples

help: ## show what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## server, pool, two deployments, worker, two runs, a table: in under a minute
	@$(RUN) scripts/demo.py

test: lint ## everything: lint, then all tests
	@$(RUN) -m pytest -n 2

lint: $(VENV)/.installed-test ## style, types and floors
	@$(VENV)/bin/ruff check $(CHECKED)
	@$(VENV)/bin/ruff format --check $(CHECKED)
	@$(RUN) -m mypy
	@$(RUN) -m mypy bench scripts
	@$(VENV)/bin/lint-imports

bench: $(VENV)/.installed-test ## Eparch beside Prefect, into docs/benchmarks.md; BENCH="--eparch-only --only create"
	@$(RUN) -m bench $(BENCH)

faults: $(VENV)/.installed-test ## ten minutes of kills and cuts, into docs/reliability.md; FAULTS="--seconds 60 --only holder"
	@$(RUN) -m tests.faults.matrix --write docs/reliability.md $(FAULTS)

clean: ## remove the environment and every cache
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(RUN):
	@test -n "$(PYTHON)" || { echo "Eparch needs Python 3.11 or newer: install it, or name one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }

# The installed package is editable, so only a change of what it depends on installs again.
$(VENV)/.installed: pyproject.toml | $(RUN)
	@echo "installing eparch into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(RUN)
	@echo "installing eparch and what its tests need into $(VENV)"
	@$(RUN) -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(VENV)/.installed $@
