# make demo   the model in the package tracks drawn shapes, into ./demo
# make test   lint, types and tests
# Both make their own environment in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test lint types unit slow gpu-check gpu-standin clean

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

# The device layer over pycuda and a driver that needs no GPU. pycuda is built once, in a minute.
gpu-standin: $(READY)
	$(BIN)/python tests/standin/prepare.py .standin
	$(BIN)/python -m pytest -m standin tests/standin

$(READY): pyproject.toml packaging_hook.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[export,train,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) demo
