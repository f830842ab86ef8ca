# `make help` lists the targets. Every target makes .venv when it is missing and renews it when the lock file changes.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON3 ?= python3
VENV := .venv
READY := $(VENV)/.ready
READY_TO_TEST := $(VENV)/.ready-to-test
# dvc runs `python` and git hooks run `dvc`: both must be those of the environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
unexport VIRTUAL_ENV

.PHONY: help setup demo test check repro ui up down assets bench results clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(READY) ## make the virtual environment and install the exact versions of requirements.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "SynFER needs Python 3.11 or newer; try make PYTHON3=python3.11"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON3) -m venv $(VENV)
	@echo "installing requirements.lock into $(VENV) (some minutes the first time)"
	@python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) data/faces ## run the whole pipeline on the embedded corpus and print where to look
	@synfer flow pipeline

data/faces: data.dvc $(READY)
	@dvc pull --quiet data/faces && touch data/faces # of the registry, what the repository holds

test: $(READY_TO_TEST) data/faces ## run the tests, the smoke pipeline among them
	@python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

$(READY_TO_TEST): requirements-test.lock $(READY)
	@echo "installing requirements-test.lock into $(VENV)"
	@python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements-test.lock
	@touch $@

check: $(READY) ## style, types, and the floors of the house
	@ruff check .
	@mypy
	@lint-imports

repro: $(READY) data/faces ## rebuild what changed with DVC
	@dvc repro

ui: $(READY) ## MLflow and Prefect in the browser
	@synfer ui

up: $(READY) data/faces ## start Prefect with its deployments, a worker and MLflow on this machine
	@synfer up

down: $(READY) ## stop what make up started
	@synfer down

assets: $(READY) ## train the embedded weights again (about four hours on two cores, resumable)
	@synfer assets

bench: $(READY) data/faces ## speed of the pipeline's parts
	@python -m benchmarks

results: $(READY) ## renew the table of README.md from reports/metrics.json
	@python -m components.results_table

clean: ## remove what the pipeline and the tools made; data, runs, studies and half-trained assets stay
	@test ! -d artifacts || \
		flock --nonblock --conflict-exit-code 75 . find artifacts -mindepth 1 -maxdepth 1 ! -name assets ! -name studies -exec rm -rf {} + || \
		{ test $$? -ne 75 || echo "a run writes artifacts/ at this moment; wait for its end"; exit 1; }
	@rm -rf reports/gx reports/report.html .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf
