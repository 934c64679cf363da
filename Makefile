# Set-up needs Python >= 3.11 and pip, nothing else: `make train` and `make test` do the rest.
PYTHON ?= python3
# Options of `rnn-gpu train`, e.g. make train ARGS="--cell gru --minutes 2".
ARGS ?=
# Commits that `make bench` times.
COMMITS ?= HEAD^!

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help train test check format docs bench bench-compare bench-html gpu gpu-ahead clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

train: $(VENV)/.base  ## train a language model, with the options in ARGS
	$(BIN)/rnn-gpu train $(ARGS)

test: check  ## everything that must pass: formatting, lint, types, the benchmarks' definitions, the tests
	cd asv_bench && ../$(BIN)/asv check -E existing
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile

check: $(VENV)/.test build/typecheck/rnn_gpu/kernels  ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.test  ## rewrite the sources as `make check` wants them, where a tool can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.test  ## time the last commit, or those of COMMITS="v1..main"; results in asv_bench/results
	cd asv_bench && ../$(BIN)/asv run --machine $$(../$(BIN)/python machine.py) "$(COMMITS)"

docs: $(VENV)/.test  ## the documents and the docstrings as a site, in build/docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "The site: build/docs/index.html"

# BENCH=regex: only some benchmarks; FACTOR=1.2: how much slower is slower.
bench-compare: $(VENV)/.test  ## whether the working tree, or commit HEAD=..., is slower than commit BASE=...
	$(if $(BASE),,$(error make bench-compare wants the commit to compare with: BASE=main))
	$(BIN)/python asv_bench/compare.py $(BASE) $(HEAD) $(if $(BENCH),--bench "$(BENCH)") $(if $(FACTOR),--factor $(FACTOR))

bench-html: $(VENV)/.test  ## the history that was timed, as a page
	cd asv_bench && ../$(BIN)/asv publish
	@echo "The page: $(BIN)/python -m http.server --directory asv_bench/html"

# WHEELS=folder: install what is missing from these wheels alone; EXTRA=cuda12: CuPy for another CUDA than the driver's;
# MINUTES=9: go no further after so many; ARGS="--parts smoke": see tests/gpu/run.py.
gpu:  ## everything that needs a GPU: tests, sanitizer, benchmarks; again, to go on where time was up
	$(PYTHON) tests/gpu/environment.py .venv-gpu $(if $(WHEELS),--wheels $(WHEELS)) $(if $(EXTRA),--extra $(EXTRA))
	.venv-gpu/bin/python tests/gpu/run.py $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

gpu-ahead: $(VENV)/.test  ## compile into build/gpu-cache, where there is no GPU, what make gpu will run: an hour on 2 cores
	$(BIN)/python tests/gpu/ahead.py $(ARGS)

clean:  ## remove everything made here, the environment too
	rm -rf $(VENV) .venv-gpu build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis asv_bench/env asv_bench/html
	find rnn_gpu kernels tests asv_bench -name __pycache__ -prune -exec rm -rf {} +

# The environment is made once. The stamps are dated by the last installation, so an edit of pyproject.toml repeats it.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit("rnn_gpu needs Python 3.11 or later, and $(PYTHON) is %d.%d: try make PYTHON=python3.11" % v[:2] if v < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# What training needs, and no more.
$(VENV)/.base: pyproject.toml $(VENV)/.made
	$(PIP) install --quiet --no-compile --editable '.[plot]'
	@touch $@

# The tests' tools and oracles; they include what training needs.
$(VENV)/.test: pyproject.toml $(VENV)/.made
	$(PIP) install --quiet --no-compile --editable '.[test]'
	@touch $(VENV)/.base $@

# mypy does not follow the editable installation's import hook; with this link it finds rnn_gpu.kernels.
build/typecheck/rnn_gpu/kernels:
	@mkdir -p $(@D)
	@ln -sfn ../../../kernels $@
