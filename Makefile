# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help run test check bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(STAMP)  ## set up, run the main job on the embedded default (minutes), say where to look
	@echo "NeuronLens: MiniLM on 20 Newsgroups, range masking against neuron masking, 80 cells for each of 20 concepts."
	@echo "Expect about four minutes on two cores the first time (most of it fine-tuning), about one once that is cached;"
	@echo "accuracy near 0.72 unedited; then a table of what each mask costs the other concepts, and three paths to open."
	$(BIN)/neuronlens run

test: $(STAMP)  ## set up, pass every test, slow ones and those that download wheels included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)  ## ruff and mypy, as pre-commit and CI run them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## speed side by side in one process: a table, and outputs/bench.json
	$(BIN)/python -m benchmarks.run

clean:  ## remove the environment and build files; outputs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch comes first and alone: its pinned version resolves to a CPU build where one is offered, and nothing pulls another.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip setuptools wheel torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
