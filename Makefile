# make demo          the model in the package tracks drawn shapes, into ./demo
# make test          lint, types and tests
# make parity-avx2   comparisons of numbers once more, without AVX-512
# Both make their own environment in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed

.PHONY: demo test lint types unit parity-avx2 slow gpu-check clean

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

# Numbers against numbers once more, as on an x86 processor without AVX-512: it adds up in another
# order, and no tolerance may lean on the order of this one. OpenVINO, half limited, crashes on the
# one network that is left out: see tests/avx2_environment.py.
PARITY := tests/test_instruction_limit.py tests/core/test_network.py tests/core/test_decoding.py \
	tests/export/test_golden.py tests/export/test_official_schedule.py \
	tests/export/test_onnx_export.py tests/train/test_losses.py tests/train/test_targets.py \
	tests/train/test_shipped_model.py tests/runtime/test_streams.py \
	tests/runtime/test_winograd.py tests/runtime/test_openvino_graphs.py
parity-avx2: $(READY)
	env $$($(BIN)/python tests/avx2_environment.py) $(BIN)/python -m pytest $(PARITY) \
		--deselect tests/export/test_onnx_export.py::test_any_class_count_and_shape_of_network

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

clean:
	rm -rf $(VENV) demo
