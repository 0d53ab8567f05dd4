# Everything sets itself up: `make demo` and `make test` work in a fresh clone with Python >= 3.10 alone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# constraints.txt pins a CPU build of torch; for a GPU see the comment in that file.
CONSTRAINTS ?= constraints.txt
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup demo test test-slow bench lint format clean

setup: $(STAMP)

$(STAMP): setup.py pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or later is needed")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/pip install --quiet -c $(CONSTRAINTS) -e '.[test,lint]'
	touch $@

demo: $(STAMP)
	$(BIN)/brain-tuning demo --output runs/demo

# One thread a worker: two workers with two threads each would spend their time waiting for one another.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

# BENCH: names and options of benchmarks/run.py, e.g. make bench BENCH='ridge_cv --full --repeats 1'
bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(BENCH)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
