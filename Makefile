# torch goes first: a package that pulls it in by itself may bring gigabytes of CUDA along.
TORCH ?= torch==2.13.0
PYTHON ?= python3
BIN = .venv/bin

.PHONY: test lint slow clean

.venv/test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[test]" "$(TORCH)"
	touch $@

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

slow: .venv/test
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv build *.egg-info
