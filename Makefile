# Two commands, each doing all of its own set-up: "make quickstart" and "make test".
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: quickstart test lint types

quickstart: $(VENV)/.done
	$(BIN)/fbwrap quickstart

test: lint types
	$(BIN)/python -m pytest

lint: $(VENV)/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# the packages are type-checked as they are installed: fbwrap.recipes lies in ./recipes
types: $(VENV)/.done
	rm -rf build
	$(BIN)/python -m pip install -q --no-deps --target build/typed .
	cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p fbwrap

$(VENV)/.done: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test]"
	touch $@
