# `make demo` and `make test` do all the set-up on a fresh machine; a second call installs nothing.
PYTHON ?= python3
BIN := .venv/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test lint slow bench clean

.venv/installed: setup.cfg pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@touch $@

demo: .venv/installed
	@rm -rf runs/demo; start=$$(date +%s); \
	$(BIN)/tfprune run recipes/quickstart.toml --out runs/demo && \
	echo "make demo took $$(( $$(date +%s) - start )) s"

test: .venv/installed
	@start=$$(date +%s); \
	$(BIN)/python -m pytest -q -m 'not slow' tfprune tests && \
	echo "make test took $$(( $$(date +%s) - start )) s"

slow: .venv/installed
	$(BIN)/python -m pytest -q -m slow tests

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed
	@for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv runs build *.egg-info
