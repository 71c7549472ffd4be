# rhoflow: `make demo` shows the whole journey, `make test` proves it. Both install what they need first.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: install demo test lint bench chaos pretrained environments image clean

# About two minutes and 2.5 GB.
install: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/rhoflow demo

# Most tests of flows wait more than they compute: they come first, in more processes than there are cores; the short ones last.
test: install
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder tests/flows tests/training tests

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install
	$(BIN)/python -m tests.benchmarks $(ONLY)

# Kills everything a build is made of, at random, and counts what is lost; about half an hour.
chaos: install
	$(BIN)/python -m tests.chaos $(ONLY)

# A trained and evaluated run becomes a model that comes with the package: make pretrained RUN=run NAME=qm9-gfn2
pretrained: install
	$(BIN)/python -m training.publish $(RUN) $(NAME)

# Three environments from nothing, each with only the extras its job names; needs a package registry.
environments:
	PYTHON=$(PYTHON) sh tests/clean_environments.sh

# Follows the CPU image's Dockerfile in a clean Debian root; needs root, debootstrap and the registries.
image:
	sh deploy/images/prove.sh deploy/images/cpu.Dockerfile

clean:
	rm -rf .venv demo
