# make demo    train a small language model on text that Python carries, and show what came out
# make test    the tests
# Both create .venv and install into it. PYTHON=python3.12 picks another interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := runs/demo

.PHONY: demo test test-peers lint types bench soak readme clean

demo: $(STAMP)
	$(BIN)/handgrad demo --out $(DEMO) --overwrite

test: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --ignore=tests/peers

test-peers: $(STAMP)
	$(BIN)/python -m pytest -q tests/peers tests/kernels/test_adamw.py tests/test_checker.py

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/basedpyright --level error

# Minutes: operations beside PyTorch, then a training step. PyTorch is installed first.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[peers,plot]"
	$(BIN)/handgrad bench
	$(BIN)/python benches/gpt_step.py

# Hours: every row and kernel on 10,000 random examples (K="softmax or gelu" for some of them), all mutants, 3,000 trials,
# and all mistakes planted in CUDA kernels, of which `make test` tries every sixth.
soak: $(STAMP)
	$(BIN)/python -m pytest -q -n auto --hypothesis-profile=soak tests/rows/test_properties.py -k "$(K)"
	$(BIN)/handgrad check --trials 3000 --mutants
	HANDGRAD_MUTANTS=all $(BIN)/python -m pytest -q -n auto tests/cuda -k "planted and ($(or $(K),planted))"

# pip's own message says what is wrong, should an installation fail; python3-venv is a package of its own on Debian.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "handgrad needs Python 3.11 or newer, but $(PYTHON) is older; try make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python's venv is missing: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	@touch $@

# The table of operations in README.md, from the table of operations in reference/table.py.
readme: $(STAMP)
	$(BIN)/python -m handgrad.engine.cli.operations README.md

clean:
	rm -rf $(VENV) build dist *.egg-info
