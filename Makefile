# make help lists what there is. Everything is installed into .venv, from this project's own files.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST_WORKERS ?= 2
SEED ?= 1
DURATION ?= 600
LARGE ?= --large

.DEFAULT_GOAL := help
.PHONY: help setup demo test conformance torture fuzz lint format protos blocking schema bench bench-quick figures wheel clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(STAMP)  ## make the virtual environment

$(STAMP): pyproject.toml scripts/make_venv.sh
	@PYTHON="$(PYTHON)" sh scripts/make_venv.sh $(VENV)
	@touch $@

demo: setup  ## run the example study through a real daemon
	@$(BIN)/python scripts/demo.py

test: setup  ## run the tests
	@$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal

conformance: setup  ## the clients of all languages against real daemons; LANGUAGES="go python" for some of them
	@$(BIN)/python scripts/conformance.py $(LANGUAGES)

torture: setup  ## kill daemons at random for DURATION seconds: SEED=1 DURATION=600
	@$(BIN)/python scripts/torture.py --seed $(SEED) --duration $(DURATION)

fuzz: setup  ## random and mutated input for DURATION seconds: SEED=1 DURATION=600
	@$(BIN)/python scripts/fuzz.py --seed $(SEED) --duration $(DURATION)

lint: setup  ## check types, style, protos and generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@sh scripts/buf.sh lint

format: setup  ## format the code and mend what ruff can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

protos: setup  ## generate src/swarmd/_pb from protos/
	@$(BIN)/python scripts/generate_protos.py

blocking: setup  ## generate the blocking client from the asynchronous one
	@$(BIN)/python scripts/generate_blocking.py

schema: setup  ## write the JSON Schema of the workflow file
	@$(BIN)/python -m swarmd.workflow.schema

bench: setup  ## measure everything beside peers and limits: a table, build/bench.json, .md and .png; LARGE= leaves 10 M tasks out
	@$(BIN)/python scripts/bench_environment.py
	@$(BIN)/python -m benchmarks.suite $(LARGE)

figures: setup  ## put the table of the last `make bench` into the README
	@$(BIN)/python -m benchmarks.suite.publish

bench-quick: setup  ## the same with smaller sizes, in two minutes
	@$(BIN)/python scripts/bench_environment.py
	@$(BIN)/python -m benchmarks.suite --quick

wheel: setup  ## build the wheel into dist/
	@$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:  ## remove everything that was made here
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
