# Two commands for a newcomer: `make train` and `make test`. Both install into $(VENV) first, once.

PYTHON ?= python3
VENV ?= .venv
SEED ?= 0
# More arguments for train or test: make train ARGS="--total-timesteps 100000", make test ARGS="-k gae".
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install train test lint types docs check clean

help:  ## List the targets
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 17

install: $(INSTALLED)  ## Create the virtual environment and install the pinned versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "recurrent-rl needs Python 3.10 or newer, and $(PYTHON) is %d.%d. Name a newer one: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e ".[dev,plot]" -c constraints.txt
	@touch $@

train: $(INSTALLED)  ## Train an agent on RepeatPrevious-Easy, then evaluate it (SEED=0)
	$(BIN)/recurrent-rl train recurrent_rl/RepeatPrevious-Easy-v0 --seed $(SEED) --total-timesteps 500000 --eval-episodes 1000 $(ARGS)

test: $(INSTALLED)  ## Run the default test suite
	$(BIN)/pytest -n auto $(ARGS)

lint: $(INSTALLED)  ## Check style, formatting and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(INSTALLED)  ## Check types
	$(BIN)/mypy
	$(BIN)/mypy benchmarks

docs: $(INSTALLED)  ## Build the pages of docs/ into docs/_build/html
	$(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going docs docs/_build/html

check: lint types docs test  ## Everything that must pass before a commit

clean:  ## Remove caches and build products; the environment and the runs stay
	rm -rf build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
