# Two commands from nothing: `make demo` and `make test`. Both make the environment first, if it is not there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMG ?=

.PHONY: demo test lint clean

$(VENV)/.installed: pyproject.toml $(wildcard native/*.*)
	@date +%s >.setup
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): torch and the tools of tests too, about 1.8 GB on the disk; some minutes"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@echo "set up in $$(($$(date +%s) - $$(cat .setup))) s"; rm .setup
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/lookonce demo $(if $(IMG),"$(IMG)")

test: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .setup predictions.png native/build lookonce/_binary.* .mypy_cache .ruff_cache .pytest_cache
