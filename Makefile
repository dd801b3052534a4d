# `make demo` and `make test` are all the set-up there is: they make .venv first where it is missing.
# A machine needs make, git and some Python >= 3.12.

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS  := $(VENV)/.installed-docs
DEMOS := $(addprefix examples/, sinusoid_family.py el_nino.py own_model.py pacific_sst.py \
  sleepstudy.py stations.py)
# A process for each core; a file stays in one of them, as its tests share fits.
PARALLEL := -n auto --dist loadfile
# Each process has a core: threads of linear algebra would wait for one another, and wait at full load.
ALONE := OPENBLAS_NUM_THREADS=1

# Compiled programs are kept here between runs: most of a short run is compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/build/jax-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0
export MPLBACKEND := Agg
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test test-slow bench docs docs-full lint format clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## .venv with bayesfield (editable) and everything for its development

# hatchling and editables go first, and the build is not isolated, so that they are the pinned ones too.
$(STAMP): pyproject.toml constraints.txt
	@.ci/make-venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PY) -m pip install -qq -c constraints.txt hatchling editables
	@$(PY) -m pip install -qq -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

demo: $(STAMP) ## the examples, figures into out/
	@mkdir -p out
	@set -e; for script in $(DEMOS); do echo "$$script"; $(PY) $$script; done

# Fast tests run each program once or twice: less work on its machine code saves a quarter of their time.
# Files marked `optimised` are compiled as users compile them all the same (tests/conftest.py).
test: $(STAMP) ## the fast tests; ARGS= goes to pytest
	@$(ALONE) JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) -m pytest -q $(PARALLEL) $(ARGS)

test-slow: $(STAMP) ## the slow tests
	@$(ALONE) $(PY) -m pytest -q -m slow -n auto --dist worksteal $(ARGS)

bench: $(STAMP) ## the measurements, into benchmarks/RESULTS.md (half an hour)
	@env -u JAX_COMPILATION_CACHE_DIR $(PY) benchmarks/run.py

# What only the site needs has a stamp of its own: the tests do without.
$(DOCS): $(STAMP)
	@echo "installing what builds the site into $(VENV)"
	@$(PY) -m pip install -qq -c constraints.txt --no-build-isolation -e '.[docs]'
	@touch $@

docs: $(DOCS) ## the site, into build/docs/html; the examples at small settings
	@JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(PY) docs/build.py

docs-full: $(DOCS) ## the site with the examples as their readers run them (half an hour)
	@$(PY) docs/build.py --full

lint: $(STAMP) ## ruff, pyright, and no registry's host in any file
	@$(PY) -m ruff check --quiet
	@$(PY) -m ruff format --check --quiet || { $(PY) -m ruff format --check; exit 1; }
	@$(PY) -m pyright
	@.ci/check-hosts

format: $(STAMP) ## what lint would ask of the layout, done
	@$(PY) -m ruff check --quiet --fix-only
	@$(PY) -m ruff format

clean: ## what building, testing and running leave behind; .venv stays
	@rm -rf build dist out .pytest_cache .ruff_cache
	@find bayesfield inference tests examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
