# `make test` on a fresh machine makes the environment and passes the tests; `make` says what else there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help setup browser test tests soak check lint types format man clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/installed  ## the environment, with everything that the tests need

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
	@for name in chromium chromium-browser google-chrome; do command -v $$name >/dev/null && exit 0; done; \
	echo 'There is no Chromium for the tests of the page; `make browser` gets one.'

browser: setup  ## Chromium for the tests of the page that `report` makes, where there is none
	$(BIN)/python -m playwright install --with-deps chromium

test: setup  ## lint, types and all tests
	$(MAKE) --jobs 3 lint types tests

# Whoever is through with its files takes over half of what another one has left, so that none works alone at the end.
# One more than there are cores: some tests only wait. What they compile is kept, also where the environment forbids
# it, as images of containers do: else each of them compiles all tests, and each process that they start all modules.
tests: setup
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $$($(BIN)/python -c "from adafocus_cli.requests import cores; print(cores() + 1)") --dist worksteal

soak: setup  ## what takes minutes: bad files, kills, thousands of videos, training steps of the authors
	$(BIN)/python -m pytest tests/soak
	ADAFOCUS_ORACLE=tests/oracle $(BIN)/python -m pytest tests/training/test_published_steps.py

check: lint types  ## lint and types

lint: setup  ## style and mistakes that can be seen
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict; not on Python 3.10, whose last numpy has other types
	$(BIN)/python -c "import sys; sys.exit(sys.version_info >= (3, 11))" || $(BIN)/mypy

format: setup  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

man: setup  ## the manual page, after an option has changed
	$(BIN)/python -c "from adafocus_cli.cli.app import manual_page; print(manual_page(), end='')" > docs/adafocus.1

clean:  ## remove what was made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache *.egg-info
