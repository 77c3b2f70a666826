# Two commands, each doing all of its own set-up: "make quickstart" and "make test".
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# only what is imported is compiled, by who imports it first: this halves the time
PIP = $(BIN)/python -m pip install -q --no-compile
unexport PYTHONDONTWRITEBYTECODE

# the packages as they are installed: fbwrap.recipes lies in ./recipes
TYPES = rm -rf build && $(BIN)/python -m pip install -q --no-deps --target build/typed . && \
	(cd build/typed && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p fbwrap)

LINT = $(BIN)/ruff check . && $(BIN)/ruff format --check .
# Chromium comes while packages are installed
MAKEFLAGS += --jobs=2

.PHONY: quickstart test lint types browser published release

quickstart: $(VENV)/.done
	$(BIN)/fbwrap quickstart

# lint and types are checked, and what is published is built, installed and tested, beside the tests of the checkout, which
# run in a process for each core
test: browser $(VENV)/.integration
	{ $(LINT) && $(TYPES) && $(BIN)/python tests/published.py constraints.txt --few; } > $(VENV)/published.log 2>&1 & job=$$!; \
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations=40; tests=$$?; \
	wait $$job; published=$$?; cat $(VENV)/published.log; exit $$((tests | published))

published: $(VENV)/.done
	$(BIN)/python tests/published.py constraints.txt

# everything but publishing: make release VERSION=0.1.0 FBWRAP_REPOSITORY=https://…
release: $(VENV)/.done
	@test -n "$(VERSION)" || { echo "Which version? make release VERSION=0.1.0"; exit 2; }
	$(PIP) twine
	$(BIN)/python tools/release.py $(VERSION)

lint: $(VENV)/.done
	$(LINT)

# the packages are type-checked as they are installed: fbwrap.recipes lies in ./recipes
types: $(VENV)/.done
	$(TYPES)

# for the tests of the interactive page; without the right to install one they are skipped, and say so
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null && command -v chromedriver >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null \
		|| echo "Chromium could not be installed: the tests of the page are skipped"; \
	else echo "no Chromium and chromedriver: the tests of the page are skipped"; fi

$(VENV)/.done: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e ".[test]"
	touch $@

# other people's packages, for the tests: old ones without the dependencies that they name and never import
$(VENV)/.integration: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c constraints.txt -e ".[test,integration]"
	$(PIP) -c constraints.txt --no-deps torchgan pytorch-pretrained-biggan lightweight-gan
	if $(BIN)/python -c "import sys; sys.exit(sys.version_info >= (3, 13))"; then \
		$(PIP) -c constraints.txt --no-deps --no-build-isolation basicsr; \
	else echo "basicsr does not build on this Python: its tests are skipped"; fi
	touch $(VENV)/.done $@
