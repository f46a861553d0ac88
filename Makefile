PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
DATA := .data
export OMP_NUM_THREADS ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test check docs bench data nano clean

help: ## Print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/base ## Install, then rank the pages, pictures and passages in demo/
	@sh demo/run.sh $(BIN)/sightrank

test: $(VENV)/test $(DATA)/packages/dashscope ## Install the test extras and run the suite
	$(BIN)/python -m pytest -q

check: $(VENV)/test ## Lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/base ## Write docs/reference/cli.md from the commands
	$(BIN)/python -m sightrank.cli.reference

bench: $(VENV)/test ## Run the benchmarks that end within minutes on two cores
	$(BIN)/python benchmarks/nano.py

data: $(VENV)/test ## Fetch nano's sources and build its data pack in .data (4 GB, three quarters of an hour)
	$(BIN)/python -m recipe.fetch
	$(BIN)/python -m recipe.corpus
	@mkdir -p $(DATA)/tokenizer  # nano's own, so that its weights fit; `python -m recipe.tokenizer` cuts one
	@test -e $(DATA)/tokenizer/tokenizer.json || cp sightrank/nano/tokenizer.json $(DATA)/tokenizer/
	$(BIN)/python -m recipe.pack
	$(BIN)/python -m recipe.pictures
	$(BIN)/python -m recipe.words
	$(BIN)/python -m recipe.context

nano: $(VENV)/test ## Train nano from the data pack and write sightrank/nano (hours on two cores)
	set -e; for stage in text letters shifted read read-pages read-more pages pages-last \
	  read-again text-again pages-again read-longer text-wider pages-wider \
	  composing text-meanings composing-longer meanings-longer pages-meanings \
	  composing-words pages-words pages-renamed composing-spoken; do \
	  $(BIN)/python -m recipe.train recipe/stages/$$stage.toml $(TRAIN); done
	$(BIN)/python -m recipe.export --to sightrank/nano

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

# torch first and alone: its exact version is the one that has a CPU build.
$(VENV)/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	@touch $@

$(VENV)/test: $(VENV)/base
	$(PIP) --editable '.[test]'
	@touch $@

# The published ranks of the Qwen tokenizer, data for one test; without them it is skipped.
$(DATA)/packages/dashscope:
	@mkdir -p $(DATA)/packages
	-$(BIN)/pip download --quiet --no-deps --dest $(DATA)/packages dashscope==2.0.2 && touch $@
