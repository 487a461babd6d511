# `make demo` and `make test` do all the set-up on a fresh machine; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
# One process a core; the tests of a file stay together, since they share models. The files come in
# the order of the folders: by the count of their tests, the few long ones would all come last.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder
QUICK := -m 'not slow and not exhaustive'
# What shows most faults in least time: the layout, the registries, and what needs no training.
CHECK := $(addprefix tests/,utils storage workers data report recipe runtime graph contract \
	structure/ids structure/groups structure/rebuild structure/proof structure/select \
	structure/targets structure/gates structure/test_shrink.py sparsity/choices \
	sparsity/test_pruning.py sparsity/test_mask_files.py deploy/verify \
	measure/test_check.py measure/test_comparison.py measure/test_size.py test_house.py \
	test_public_api.py test_errors.py test_console.py test_keras_inside.py)
PIP := -m pip install --quiet --disable-pip-version-check
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo check test test-low test-next lint api slow exhaustive bench bench-data bench-peers clean

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) -e '.[dev]' -c constraints.txt
	@touch $@

demo: .venv/installed
	@rm -rf runs/demo; start=$$(date +%s); \
	$(BIN)/tfprune run recipes/quickstart.toml --out runs/demo && \
	echo "make demo took $$(( $$(date +%s) - start )) s"

test: .venv/installed
	@start=$$(date +%s); \
	$(BIN)/python -m pytest -q $(PARALLEL) $(QUICK) tfprune tests && \
	echo "make test took $$(( $$(date +%s) - start )) s"

# What to run while writing.
check: lint
	@start=$$(date +%s); \
	$(BIN)/python -m pytest -q $(PARALLEL) $(QUICK) tfprune $(CHECK) && \
	echo "the tests of make check took $$(( $$(date +%s) - start )) s"

# After a change of a public signature; `git diff tests/golden` is what users will see of it.
api: .venv/installed
	$(BIN)/python -m tests.public_api

# The oldest releases that setup.cfg allows. litert-quantizer needs a newer ai-edge-litert, and
# keras-hub a newer TensorFlow.
.venv-low/installed: setup.cfg pyproject.toml constraints-low.txt
	@test -x .venv-low/bin/python || $(PYTHON) -m venv .venv-low
	.venv-low/bin/python $(PIP) -e '.[test,demo,onnx,tensorboard]' -c constraints-low.txt
	@touch $@

test-low: .venv-low/installed
	.venv-low/bin/python -m pytest -q $(PARALLEL) $(QUICK) tfprune tests

.venv-next/installed: setup.cfg pyproject.toml constraints.txt
	@test -x .venv-next/bin/python || $(PYTHON) -m venv .venv-next
	.venv-next/bin/python $(PIP) -e '.[dev]' -c constraints.txt
	@touch $@

# The build of Keras of the last night, which no release promises anything about: what fails is
# looked at (tfprune/keras_support/internals.py is where to mend it), and does not fail the target.
test-next: .venv-next/installed
	.venv-next/bin/python -m pip uninstall --quiet --yes keras keras-nightly
	.venv-next/bin/python $(PIP) --pre keras-nightly
	@.venv-next/bin/python -m pytest -q $(PARALLEL) $(QUICK) tfprune tests; result=$$?; \
	.venv-next/bin/python -c "import keras; print('Keras', keras.__version__, end=': ')" && \
	if [ $$result -eq 0 ]; then echo "all quick tests pass"; \
	else echo "tests fail (pytest ended with $$result); see above"; fi

slow: .venv/installed
	$(BIN)/python -m pytest -q $(PARALLEL) -m 'slow and not exhaustive' tests

exhaustive: .venv/installed
	$(BIN)/python -m pytest -q -m exhaustive tests

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/sparsity.py
	$(BIN)/python benchmarks/structure_latency.py
	$(BIN)/python benchmarks/applications.py
	$(BIN)/python benchmarks/hub.py
	$(BIN)/python benchmarks/matrix.py
	$(BIN)/python benchmarks/verbs.py
	$(BIN)/python benchmarks/verbs.py --applications
	$(BIN)/python benchmarks/scheme_choice.py
	$(BIN)/python benchmarks/sparse_kernels.py
	$(BIN)/python benchmarks/timing_noise.py
	$(BIN)/python benchmarks/stream_memory.py
	$(BIN)/python benchmarks/several_workers.py
	$(BIN)/python benchmarks/tasks.py

# An hour or more; they need the data sets in $$TFPRUNE_DATA.
bench-data: .venv/installed
	$(BIN)/python benchmarks/oneshot.py
	$(BIN)/python benchmarks/joint_rounding.py
	$(BIN)/python benchmarks/sparsity_accuracy.py
	$(BIN)/python benchmarks/qat.py

# They need the extra `peers`: PyTorch and Torch-Pruning; the second also $$TFPRUNE_DATA, for hours.
# benchmarks/onnx_engines.py --deepsparse PYTHON needs an environment that has DeepSparse.
bench-peers: .venv/installed
	$(BIN)/python benchmarks/structure.py
	$(BIN)/python benchmarks/structure_accuracy.py

clean:
	rm -rf .venv .venv-low .venv-next runs build *.egg-info
