# make demo     runs the main job on the embedded data set: a flatbuffer and a report in runs/digits
# make test     runs the tests
# make run RECIPE=recipes/fashion-mnist-qat.yaml
# Both create $(VENV) and install everything into it first. VENV= and PYTHON= choose other ones.

PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs
BIN := $(VENV)/bin
EDGECOMPRESS := $(BIN)/edgecompress
STAMP := $(VENV)/.installed
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
RUN_OPTIONS ?=

.PHONY: help demo test quick run check lint types data bench clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4
	@echo "Others: quick (the tests that take no torch, in half a minute), check (lint: ruff; types: mypy; architecture),"
	@echo "data (what the recipes need), bench (measures what the docs claim), clean. docs/contributing.md says more."

# Everything pinned in constraints.txt, so that the same commit installs the same libraries.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Installing Debian's python3-venv"; $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@echo "Installing edgecompress into $(VENV): some minutes the first time"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,micro,timm]'
	@$(BIN)/python -c 'from edgecompress.machine import why_no_conversion as why; why() and print("Note:", why(), "(docs/installing.md)")'
	@touch $@

demo: $(STAMP)
	$(EDGECOMPRESS) run recipes/digits.yaml --output $(RUNS)/digits $(RUN_OPTIONS)
	@echo "Flatbuffer: $(RUNS)/digits/model.tflite   Report: $(RUNS)/digits/report.html"

# Two workers, a file each: most of the time goes into the converter, which uses one core. Where data cannot be brought,
# the tests make stand-ins for it; for text, series and audio they always do.
test: $(STAMP)
	-@$(BIN)/python -m benchmarks.bring_data fashion-mnist
	$(BIN)/python -m coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term $(PYTEST_OPTIONS)

# What can be said without torch: see tests/shared/quick.py.
quick: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quick -n 2 --dist worksteal $(PYTEST_OPTIONS)

run: $(STAMP)
	@[ -n "$(RECIPE)" ] || { echo "Which recipe? make run RECIPE=recipes/digits.yaml" >&2; exit 2; }
	$(EDGECOMPRESS) run $(RECIPE) $(RUN_OPTIONS)

check: lint types
	$(BIN)/python -m pytest tests/unit/test_architecture.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

data: $(STAMP)
	$(BIN)/python -m benchmarks.bring_data

bench: $(STAMP)
	$(BIN)/python -m benchmarks.recipes.digits_seeds
	$(BIN)/python -m benchmarks.quantization.torchvision_ptq
	$(BIN)/python -m benchmarks.recipes.techniques

clean:
	rm -rf $(RUNS) .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.*

# The rule that users' Makefiles include: a stamp that is only there while the run passes its budget.
include edgecompress.mk
$(RUNS)/%.passed: recipes/%.yaml $(STAMP) .edgecompress-always
	$(passed)
