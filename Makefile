# Two commands: `make run` and `make test`. Both make .venv first if it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: run test check bench docs format verify clean

run: $(INSTALLED)  ## search the quick-start space on two worker processes
	$(BIN)/metatune run search_spaces/quickstart.yaml --workers 2

test: $(INSTALLED)  ## the whole suite, a process a core and one more, for some wait
	$(BIN)/python -m pytest -n $$($(BIN)/python -c 'import os; print(1 + (os.cpu_count() or 1))') --dist loadgroup --no-loadscope-reorder

bench: $(INSTALLED)  ## how fast it is beside others, on this machine; about half an hour
	$(BIN)/python benchmarks/speed.py

check: $(INSTALLED)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(VENV)/.docs  ## the site, into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

verify: $(INSTALLED)  ## whether the statistics keep their word, and no file brings it down; some minutes
	$(BIN)/python benchmarks/honesty.py
	$(BIN)/python -m pytest -m long
	$(BIN)/python benchmarks/faults.py kills
	METATUNE_FUZZ=2000 $(BIN)/python -m pytest tests/fuzz

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metatune needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@
