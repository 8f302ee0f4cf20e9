# Every target sets up what it needs; `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help run test soak browser check reference bench paper clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(STAMP)  ## set up, run the main job on the embedded default (minutes), say where to look
	@echo "NeuronLens: MiniLM on 20 Newsgroups, range masking against neuron masking, 160 cells for each of 20 concepts."
	@echo "Expect about four minutes on two cores the first time (most of it fine-tuning), about one once that is cached;"
	@echo "accuracy near 0.73 unedited; then a table of what each mask costs the other concepts, and three paths to open."
	$(BIN)/neuronlens run

test: $(STAMP) browser  ## set up, pass every test, slow ones and those that download wheels included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

soak: $(STAMP) browser  ## the whole suite three times, each with another seed for every random draw; stops at the first failure
	for seed in 1 2 3; do echo "NEURONLENS_TEST_SEED=$$seed" && NEURONLENS_TEST_SEED=$$seed NEURONLENS_TEST_MOMENTS=20 OMP_NUM_THREADS=1 \
	$(BIN)/python -m pytest -x -n 2 --dist loadfile || exit 1; done

# Only root on a Debian can install it; elsewhere the test of the report page that clicks says why it is skipped.
browser:  ## Debian's chromium for the report page's test, where there is none yet
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 && echo "Installing chromium for the report page's test" \
	&& apt-get update -qq >/dev/null 2>&1 \
	&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-dejavu-core >/dev/null 2>&1; } \
	|| echo "No Chromium, and none could be installed: the report page's browser test will be skipped."

check: $(STAMP)  ## ruff and mypy, as pre-commit and CI run them
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(STAMP)  ## write docs/reference/config.md again: every key with type, default, rule and sentence
	$(BIN)/python -m neuronlens.config.reference

paper: $(STAMP)  ## the paper's tables, figures and claims on the embedded models (under half an hour), below outputs/paper/
	$(BIN)/python -m experiments.paper profile=embedded

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
