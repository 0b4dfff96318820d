# make demo   the model in the package tracks drawn shapes, into ./demo
# make test   lint, types and tests
# Both make their own environment in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: site demo test lint types unit slow gpu-check clean

demo: $(READY)
	$(BIN)/visolo demo --output demo

test: lint types unit

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/python -m pytest

# Many minutes: long videos, whole trainings; some need VISOLO_DATA.
slow: $(READY)
	$(BIN)/python -m pytest -m slow

# On a machine with a GPU: tests of the engines on it and a run, into gpu-check.txt.
gpu-check: $(READY)
	$(BIN)/python -m pip uninstall --quiet --yes onnxruntime
	VISOLO_GPU=1 $(BIN)/python -m pip install --quiet --editable '.[gpu,rtx,export,train,dev]'
	$(BIN)/visolo doctor > gpu-check.txt || true
	$(BIN)/python -m pytest -m gpu tests/gpu 2>&1 | tee -a gpu-check.txt
	$(BIN)/python benchmarks/gpu_speed.py 2>&1 | tee -a gpu-check.txt

$(READY): pyproject.toml packaging_hook.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[export,train,dev]'
	touch $(READY)

# The pages and a reference of the Python API, into ./site; a link that leads nowhere is an error.
site: $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python tools/site_pages.py build/pages build/sources
	$(BIN)/zensical build --strict --clean --config-file mkdocs.yml

clean:
	rm -rf $(VENV) demo
