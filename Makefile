# make demo          the model in the package tracks drawn shapes, into ./demo; without PyTorch
# make test          lint, types and tests
# make parity-avx2   comparisons of numbers once more, without AVX-512
# make coverage      the tests again, and which lines they leave out
# make site          the pages and a reference of the Python API, into ./site
# make web           a page that runs a model in the browser, into ./build/web; needs npm
# make wheels        visolo and visolo-gpu, into ./dist, checked; GPU extras resolved by pip
# make container     the steps of docker/cpu/Dockerfile, without a container engine
# make release       whether this version can be published; publishes nothing
# make gpu-standin   the GPU's device layer over a driver that needs no GPU
# make gpu-check     what needs a GPU, into gpu-check.txt
# Each makes its own environment first.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.installed
DOCS := $(VENV)/.docs
GPU_BIN := .venv-gpu/bin
PIP_INSTALL := -m pip install --disable-pip-version-check --constraint constraints.txt
MANIFEST := pyproject.toml packaging_hook.py constraints.txt

.PHONY: demo test lint types types-3.11 types-3.10 unit parity-avx2 slow fuzz coverage site web \
	wheels container release can-release gpu-check gpu-standin constraints clean

demo: $(BASE)
	$(BIN)/visolo demo --output demo

# What needs no other of them runs beside it.
test: $(READY)
	$(MAKE) --jobs=2 --output-sync=target lint types
	$(MAKE) unit

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: types-3.11 types-3.10

types-3.11: $(READY)
	$(BIN)/mypy

# As Python 3.10 sees what runs on a Jetson. The newest NumPy has no types for it.
types-3.10: $(READY)
	$(BIN)/mypy --python-version 3.10 --disable-error-code no-any-return --no-warn-unused-ignores \
		visolo visolo_core runtime/visolo_runtime export/visolo_export

# Two processes; the tests of a file stay together, since they share what is made for them.
unit: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# Numbers against numbers once more, as on an x86 processor without AVX-512: it adds up in another
# order, and no tolerance may lean on the order of this one. Of test_onnx_export.py the tests that
# compare no numbers are left out, and a network on which OpenVINO, half limited, crashes: see
# tests/avx2_environment.py.
PARITY := tests/test_instruction_limit.py tests/core/test_network.py tests/core/test_decoding.py \
	tests/export/test_golden.py tests/export/test_official_schedule.py \
	tests/export/test_onnx_export.py::test_a_network_on_mobilenet \
	tests/train/test_losses.py tests/train/test_targets.py tests/train/test_shipped_model.py \
	tests/runtime/test_streams.py tests/runtime/test_winograd.py \
	tests/runtime/test_openvino_graphs.py
parity-avx2: $(READY)
	env $$($(BIN)/python tests/avx2_environment.py) $(BIN)/python -m pytest $(PARITY)

# Many minutes: long videos, whole trainings; some need VISOLO_DATA.
slow: $(READY)
	$(BIN)/python -m pytest -m slow

# An hour; what breaks a reader is kept in build/fuzz.
fuzz: $(READY)
	$(BIN)/python tests/fuzz_campaign.py --minutes 60

coverage: $(READY)
	$(BIN)/python -m pytest --cov

wheels: $(READY)
	$(BIN)/python tools/build_distributions.py dist
	$(BIN)/python tools/check_distributions.py dist
	$(BIN)/python tools/check_gpu_extras.py dist

container: $(READY)
	$(BIN)/python tools/check_container.py

# What would be refused is said before the tests run.
release: can-release test wheels
	@echo "Nothing is published yet. To publish:"
	@echo "  git tag v$$($(BIN)/visolo --version | cut -d ' ' -f 2) && git push --tags"
	@echo "  twine upload $$(echo dist/visolo*)"

can-release: $(READY)
	$(BIN)/python tools/check_release.py

# An environment of its own: visolo-gpu and visolo cannot be installed together. --no-deps
# installs today's files in place of an earlier build of the same version.
gpu-check:
	$(PYTHON) -m venv .venv-gpu
	$(GPU_BIN)/python $(PIP_INSTALL) hatchling
	$(GPU_BIN)/python tools/build_distributions.py dist
	$(GPU_BIN)/python $(PIP_INSTALL) "$$(echo dist/visolo_gpu-*.whl)[gpu,rtx,export,train,dev]"
	$(GPU_BIN)/python $(PIP_INSTALL) --force-reinstall --no-deps dist/visolo_gpu-*.whl
	.ci/gpu-check $(GPU_BIN) 2>&1 | tee gpu-check.txt

# The device layer over pycuda and a driver that needs no GPU. pycuda is built once, in minutes.
gpu-standin: $(READY)
	$(BIN)/python tests/standin/prepare.py .standin
	$(BIN)/python -m pytest -m standin tests/standin

# The newest versions that the ranges allow.
constraints: $(READY)
	$(BIN)/python tools/write_constraints.py constraints.txt

$(BASE): $(MANIFEST)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "visolo needs Python 3.11 or later: name one, such as make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) --editable .
	touch $(BASE)

$(READY): $(BASE)
	$(BIN)/python $(PIP_INSTALL) --editable '.[export,train,dev]'
	touch $(READY)

# The pages and a reference of the Python API, into ./site; a link that leads nowhere is an error.
site: $(DOCS)
	$(BIN)/python tools/site_pages.py build/pages build/sources
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --clean --config-file mkdocs.yml

$(DOCS): $(BASE)
	$(BIN)/python $(PIP_INSTALL) --editable '.[docs]'
	touch $(DOCS)

# What the page needs from npm is installed as its lock file says, and no script of it is run.
NPM := build/npm
PAGE := runtime/visolo_runtime/web
web: $(BASE) $(NPM)/.installed
	$(BIN)/visolo web build/web --runtime $(NPM)/node_modules/onnxruntime-web

$(NPM)/.installed: $(PAGE)/package.json $(PAGE)/package-lock.json
	mkdir -p $(NPM)
	cp $(PAGE)/package.json $(PAGE)/package-lock.json $(NPM)
	npm ci --prefix $(NPM) --ignore-scripts --no-audit --no-fund
	touch $(NPM)/.installed

clean:
	rm -rf $(VENV) .venv-gpu .standin demo dist build site gpu-check.txt .coverage
