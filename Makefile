# Two commands from nothing: `make demo` and `make test`. Both make the environment first, if it is not there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMG ?=

.PHONY: demo test lint clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/python bench/demo.py "$(IMG)"

test: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache
