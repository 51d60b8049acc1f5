# hstu-stream: `make help` lists what there is. For a .venv without CUDA set PIP_EXTRA_INDEX_URL to
# PyTorch's index of CPU wheels.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
JOBS ?= 3
SEED ?= 1
PYTEST := $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal
BENCHES := freshness serve ingest train encoder rank user_state topk vocabulary stochastic_length time_bias defaults generator oracle ablation

unexport PYTHONDONTWRITEBYTECODE  # tests start hundreds of processes; each would compile all modules anew

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all chaos check reference docs bench clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev,docs]'
	@touch $(STAMP)

install: $(STAMP) ## Make .venv with everything in it

demo: $(STAMP) ## Run the main job on MovieLens (STAY=1 leaves it and its dashboard up until Ctrl-C)
	$(BIN)/hstu demo $(if $(STAY),--stay)

test: $(STAMP) ## Run the tests, about 11 minutes on 2 cores (JOBS=3 side by side: some wait)
	$(PYTEST) -m "not slow and not gpu"

test-all: $(STAMP) ## Run every test, properties on new examples; those for a GPU are skipped where there is none
	$(PYTEST) --hypothesis-profile=explore

chaos: $(STAMP) ## Run 110 faults under default and strict settings, 20 minutes (SEED=1 replays a schedule)
	$(BIN)/python -m tests.chaos --seed $(SEED) --faults 55

check: $(STAMP) ## Lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

reference: $(STAMP) ## Write the pages of docs/reference from the code
	$(BIN)/python -m tests.reference

docs: $(STAMP) ## Build the pages as a static site in site/; links that lead nowhere fail
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8080"

bench: $(STAMP) ## Run the benchmarks, one after another; each prints its table (SAVE=folder keeps the figures)
	for one in $(BENCHES); do $(BIN)/python bench/$$one.py $(if $(SAVE),--save $(SAVE)) || exit 1; done
	PYTHON=$(BIN)/python bench/gpu.sh

clean: ## Remove .venv and what tools leave behind
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -exec rm -rf {} +
