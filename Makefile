# Everything runs from a clone: each target makes .venv when it is missing.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin

.PHONY: venv demo test bench lint

venv: .venv/installed

.venv/installed: setup.cfg constraints.txt
	$(PYTHON) -m venv .venv
	"$(BIN)/python" -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,bench,lm,phonemize,ray,tensorboard]'
	touch $@

demo: venv
	PATH="$(BIN):$$PATH" egs/mini/wavlm/run.sh $(DEMO)

test: venv
	"$(BIN)/python" -m pytest

bench: venv
	"$(BIN)/python" -m bench.run $(CASES) $(BENCH)

lint: venv
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	"$(BIN)/python" -m mypy
	"$(BIN)/lint-imports"
