# `make` alone lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
SWAP ?=
SEED ?=
FACENET ?=
export MINIFASNET_DIR ?=
TORTURE ?=
RECEIPTS ?=
HOSTILE ?=
FLEET ?= fleet
HOST ?=
CODE := edge central provisioning tests benchmarks demo torture docs models/recipe

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# A stamp says that a set of packages is installed; it ages with what it was made from.
$(VENV)/demo.stamp: setup.cfg pyproject.toml
	@echo "setting up $(VENV) (once)"
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[edge,provisioning,central,demo]'
	@touch $@

$(VENV)/develop.stamp: $(VENV)/demo.stamp
	$(VENV)/bin/pip install --quiet --editable '.[edge,provisioning,central,demo,test]'
	@touch $@

.PHONY: demo
demo: $(VENV)/demo.stamp ## the main job, on rendered walk-pasts (SWAP=1: the other person, SEED=n: that clip again)
	@$(RUN) -m demo $(if $(SWAP),--swap) $(if $(SEED),--seed $(SEED))

.PHONY: broker
broker: $(VENV)/demo.stamp ## run the fleet's broker (FLEET=folder, at first HOST=name that boards connect to)
	@$(VENV)/bin/hadir-provision broker $(FLEET) $(if $(HOST),--host $(HOST)) --run

.PHONY: develop
develop: $(VENV)/develop.stamp ## .venv with everything for development

.PHONY: test
test: develop ## the tests, in parallel, with their branch coverage
	$(RUN) -m pytest -n 2 --cov --cov-branch

.PHONY: format
format: develop ## put the code into the one format
	$(RUN) -m ruff format $(CODE)
	$(RUN) -m ruff check --fix $(CODE)

.PHONY: lint
lint: develop
	$(RUN) -m ruff format --check $(CODE)
	$(RUN) -m ruff check $(CODE)

.PHONY: types
types: develop
	$(RUN) -m mypy

.PHONY: check
check: lint types test ## what CI runs: format, lint, types, tests

.PHONY: bench
bench: develop ## the performance figures of docs/figures.md
	$(RUN) -m benchmarks.road
	$(RUN) -m benchmarks.outbox
	$(RUN) -m benchmarks.claims --runs 1
	$(RUN) -m benchmarks.latency
	$(RUN) -m benchmarks.central

.PHONY: torture
torture: develop ## kill board, server and broker at every point and at random, and count the events (TORTURE, RECEIPTS: options)
	$(RUN) -m torture $(TORTURE)
	$(RUN) -m torture.receipts $(RECEIPTS)

.PHONY: hostile
hostile: develop ## 10,000 hostile messages on every topic, and on who somebody is: none is believed, none is lost
	$(RUN) -m torture.hostile $(HOSTILE)
	$(RUN) -m torture.hostile_identity

.PHONY: torture-identity
torture-identity: develop ## kill board, desk and administrator at every point of claim and rotations (TORTURE="--lives 2")
	$(RUN) -m torture.identity $(TORTURE)

.PHONY: evaluate
evaluate: develop ## recognition figures on LFW (HADIR_DATA: a folder that holds lfw/)
	@test -n "$(HADIR_DATA)" || { echo "set HADIR_DATA to the folder that holds lfw/images and lfw/pairs.txt"; exit 64; }
	$(VENV)/bin/hadir-edge evaluate lfw $(HADIR_DATA)/lfw
	$(VENV)/bin/hadir-edge evaluate openset $(HADIR_DATA)/lfw

.PHONY: quantization
quantization: develop ## float against quantized models on LFW's View 2 (HADIR_DATA: a folder that holds lfw/)
	$(PYTHON) models/recipe/build.py --variants
	$(RUN) -m benchmarks.quantization

.PHONY: docs
docs: develop ## docs/configuration.md and docs/events/vectors.json from the code
	$(RUN) docs/reference.py
	$(RUN) docs/vectors.py

.PHONY: models
models: ## rebuild the quantized models from their published sources (FACENET=path: with another FaceNet)
	$(PYTHON) models/recipe/build.py $(if $(FACENET),--facenet $(FACENET))

.PHONY: liveness
liveness: $(VENV)/demo.stamp ## the liveness models, from published weights (MINIFASNET_DIR=folder: from there)
	@$(RUN) -m models.recipe.minifasnet

.PHONY: clean
clean: ## remove the virtual environment and everything that can be made again
	rm -rf $(VENV) .cache .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
