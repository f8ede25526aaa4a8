# Everything a newcomer needs: Python 3.11+ and make. `make demo` and `make test` build .venv themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint calibration bench notebooks clean

demo: $(VENV)/.installed
	$(BIN)/causalsat demo --out demo-study --force

test: $(VENV)/.installed-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy causalsat

notebooks: $(VENV)/.installed-notebooks
	$(BIN)/jupytext --to ipynb --execute notebooks/*.py

calibration: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m calibration

bench: $(VENV)/.installed-bench
	$(BIN)/python -m tests.bench

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[test]'
	touch $@

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[test,bench]'
	touch $@

$(VENV)/.installed-notebooks: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat -e '.[notebooks]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info demo-study demo-results
