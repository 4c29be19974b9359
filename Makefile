# torch goes first: a package that pulls it in by itself may bring gigabytes of CUDA along.
TORCH ?= torch==2.13.0
PYTHON ?= python3
BIN = .venv/bin

STRUCTURES = pyg_relaxed/structures
CHILDREN = P4mm Amm2 R3m

.PHONY: demo test lint slow bench clean

# The main job on the bundled BaTiO3 crystals; its last line says where the report is.
demo: .venv/demo
	@for child in $(CHILDREN); do \
		echo; echo "== BaTiO3, Pm-3m to $$child"; \
		$(BIN)/pyg-relaxed discover $(STRUCTURES)/BaTiO3_Pm-3m.extxyz $(STRUCTURES)/BaTiO3_$$child.extxyz \
			--out report/$$child --num-seeds 1 || exit 1; \
	done

.venv/torch:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet "$(TORCH)"
	touch $@

.venv/demo: .venv/torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[viz]" "$(TORCH)"
	touch $@

.venv/test: .venv/torch pyproject.toml
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

# NequIP and MACE pin different releases of e3nn: MACE has an environment of its own, with this package in it.
.venv/bench: .venv/torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[bench]" "$(TORCH)"
	touch $@

.venv-mace/ready:
	$(PYTHON) -m venv .venv-mace
	.venv-mace/bin/pip install --quiet "$(TORCH)"
	.venv-mace/bin/pip install --quiet mace-torch matgl --editable . "$(TORCH)"
	touch $@

bench: .venv/bench .venv-mace/ready
	$(BIN)/python -W ignore benchmarks/layers.py
	$(BIN)/python -W ignore benchmarks/potential.py --mace .venv-mace/bin/python
	$(BIN)/python -W ignore benchmarks/scaling.py
	$(BIN)/python -W ignore benchmarks/relaxation.py
	$(BIN)/python -W ignore benchmarks/adapters.py
	.venv-mace/bin/python -W ignore benchmarks/adapters.py

clean:
	rm -rf .venv .venv-mace build *.egg-info
