# What a person types. Each target sets up what it needs: Python >= 3.11, git and a network are enough to begin with.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
# Further arguments for the command behind a target: make test ARGS="tests/core -x"
ARGS ?=

.PHONY: help demo lab docs test test-quick test-python test-js test-hosts package bench bench-view chaos lint types format bundle js browser clean

help:
	@echo "make demo    run the quickstart notebook in a real kernel and show what happened"
	@echo "make lab     open the example notebooks in JupyterLab"
	@echo "make test    run all tests: Python, JavaScript, real kernels, real browser"
	@echo "make test-quick   what runs without a kernel and a browser, in under two minutes"
	@echo "make test-hosts   four hosts on one machine, some unreachable from others; as root, on Linux"
	@echo "make package install the wheel without an index, with the lowest and the newest dependencies, and use it there"
	@echo "make docs    build the documentation site into artifacts/docs, any warning is an error"
	@echo "make bench   run the benchmarks: flyte_nb, raw Dask and joblib side by side (ARGS=--growth: at 1, 10 and 100 times the size)"
	@echo "make bench-view   what the live view costs a run, and what the browser feels"
	@echo "make chaos   stop, kill, exhaust and attack real kernels for ten minutes, and print what held"
	@echo "make lint    check style, in Python and JavaScript, and that the committed widget is what js/ builds"
	@echo "make types   check types, in Python and TypeScript"
	@echo "make format  reformat the Python files"
	@echo "make bundle  build the widget from js/"

# --- what people run --------------------------------------------------------------------------------------------------

demo: $(VENV)/.lab
	$(PY) scripts/demo.py $(ARGS)

lab: $(VENV)/.lab
	$(PY) -m jupyterlab $$([ "$$(id -u)" != 0 ] || echo --allow-root) --notebook-dir=example-notebooks $(ARGS)

docs: $(VENV)/.dev
	$(PY) -m sphinx --fail-on-warning --keep-going --quiet -b html docs artifacts/docs $(ARGS)
	@echo "artifacts/docs/index.html"

test: test-js test-python

test-quick: $(VENV)/.dev
	$(PY) -m pytest -m "not (cluster or kernel or e2e or packaging or slow)" $(ARGS)

test-python: $(VENV)/.dev browser js/node_modules/.installed
	$(PY) -m pytest $(ARGS)

test-js: js/node_modules/.installed
	cd js && ../scripts/node.sh npm test

package: $(VENV)/.dev
	$(PY) scripts/check_package.py $(ARGS)

# Four hosts on one machine: network namespaces, so Linux and root are needed. Two minutes.
test-hosts: $(VENV)/.dev
	$(PY) -m bench.hosts $(ARGS)

bench: $(VENV)/.dev
	$(PY) -m bench.compare $(ARGS); compared=$$?; $(PY) -m bench.far && exit $$compared

bench-view: $(VENV)/.dev browser
	$(PY) bench/view_cost.py $(ARGS)
	$(PY) bench/view.py --browser

chaos: $(VENV)/.dev
	$(PY) -m bench.chaos $(ARGS)

lint: $(VENV)/.dev js/node_modules/.installed
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	cd js && ../scripts/node.sh npm run lint
	scripts/check_bundle.sh

types: $(VENV)/.dev js/node_modules/.installed
	$(PY) -m mypy
	$(PY) -m pyright
	cd js && ../scripts/node.sh npm run check

format: $(VENV)/.dev
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bundle js: js/node_modules/.installed
	cd js && ../scripts/node.sh npm run build

clean:
	rm -rf $(VENV) js/node_modules artifacts dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

# --- what they need -----------------------------------------------------------------------------------------------------

$(PY):
	@[ -n "$(PYTHON)" ] || { echo "flyte_nb needs Python 3.11 or newer; none was found. Install one, or: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip

$(VENV)/.lab: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[lab]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(PY)
	$(PY) -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.lab

js/node_modules/.installed: js/package-lock.json scripts/node.sh | $(PY)
	cd js && ../scripts/node.sh npm ci --no-audit --no-fund
	@touch $@

browser: $(VENV)/.dev
	@$(PY) tests/e2e/chromium.py --install
