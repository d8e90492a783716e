# One command each: `make demo`, `make test`, `make check`. All of them set up what they need.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
BIN := $(VENV)/bin
UV := $(BIN)/uv

.PHONY: setup demo test slow check format lock bench clean

setup: $(VENV)/.ready

# uv resolves torch and torchvision from the same registry, so that torchvision's operators fit; pip is only used to get uv.
$(VENV)/.ready: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -x $(UV) || $(BIN)/python -m pip install --quiet uv
	$(UV) pip sync --quiet --python $(BIN)/python requirements.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/convatlas demo

test: setup # one thread a worker: two libraries' thread pools on two busy cores wait for each other
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

slow: setup
	$(BIN)/pytest -m slow

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(MAKE) test

# The peers live apart, so that nothing of theirs can slip into what users install.
bench: $(BENCH)/.ready
	$(BENCH)/bin/python benchmarks/run.py

$(BENCH)/.ready: benchmarks/requirements.txt pyproject.toml | setup
	test -x $(BENCH)/bin/python || $(UV) venv --quiet --python $(BIN)/python $(BENCH)
	$(UV) pip sync --quiet --python $(BENCH)/bin/python benchmarks/requirements.txt
	$(UV) pip install --quiet --python $(BENCH)/bin/python --no-deps --editable .
	touch $@

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The lock pins exact versions for every platform and holds no addresses, so that any registry or mirror serves it.
lock:
	$(UV) pip compile --universal --python-version 3.11 --quiet --no-header --no-annotate pyproject.toml --group dev -o requirements.txt
	$(UV) pip compile --universal --python-version 3.11 --quiet --no-header --no-annotate pyproject.toml --group dev --group peers -o benchmarks/requirements.txt

clean:
	rm -rf $(VENV) $(BENCH) .pytest_cache .ruff_cache
