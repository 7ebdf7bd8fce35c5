# Everything a newcomer needs: `make demo`, `make test`. Nothing but Python 3.11+, make and git is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := trackio wandb mlflow-skinny
SEEDS ?= 50

.PHONY: help setup demo test check bench chaos clean
.DEFAULT_GOAL := help

help:
	@echo "make setup   create .venv with everything that tests need"
	@echo "make demo    start the stack and run the demo on it (Ctrl-C ends it)"
	@echo "make test    everything that CI runs"
	@echo "make check   format, lint and types only"
	@echo "make bench   measure, beside the peers that install; writes build/bench.json"
	@echo "make chaos   inject faults into real processes, SEEDS=50 schedules"

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

demo: setup
	$(BIN)/runfold demo

check: setup
	$(BIN)/ruff format --check worker coordinator tests
	$(BIN)/ruff check worker coordinator tests
	$(BIN)/mypy

test: check
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# The peers get an environment of their own, so that their dependencies never meet ours.
bench: setup
	@mkdir -p build
	@test -x build/peers/bin/python || $(PYTHON) -m venv build/peers
	-build/peers/bin/python -m pip install --quiet $(PEERS)
	$(BIN)/python -m tests.bench --out build/bench.json

# Seeds are printed; `make chaos SEEDS=1000` is what a release gets.
chaos: setup
	$(BIN)/python -m tests.chaos --seeds $(SEEDS)
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) --uploads

clean:
	rm -rf build dist $(VENV)
