# Everything that a developer or CI runs. `make` alone lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := .demo
BENCH_VENV := .bench-venv
DIAMONDS := .bench/data/diamonds.csv
IMAGE_PREFIX ?= ghcr.io/frostline
TAG ?= 0.1.0
BUILDER ?= $(notdir $(firstword $(shell command -v docker podman buildah 2>/dev/null)))
# One thread per test process: small networks gain nothing from more, and two processes use both cores.
export OMP_NUM_THREADS = 1
PARALLEL := -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check generate dashboards format bench bench-paper bench-peers images cluster cluster-down try try-env try-down clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 22

$(STAMP): pyproject.toml constraints.txt
	@echo "Creating the environment in $(VENV) (torch is large: a few minutes the first time) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Frostline needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# setuptools says of each editable installation that folders may hide packages: nothing that a person here can act on
	PYTHONWARNINGS='ignore:Editable installation' \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

demo: $(STAMP) ## Run a real study on this machine (CPU, a few minutes) and write its report
	$(BIN)/frostline run examples/gpt2-python-docs.yaml --dir $(DEMO)

test: check ## Everything: lint, types, unit, integration and end-to-end tests
	$(BIN)/python -m pytest $(PARALLEL) tests/integration
	$(BIN)/python -m pytest -m 'alone and not long' tests/e2e
	$(BIN)/python -m pytest -m 'not alone and not long' $(PARALLEL) tests/cluster tests/e2e

test-long: $(STAMP) ## The rest of the faults, and scale, in a cluster (about 20 minutes more)
	$(BIN)/python -m pytest -m long tests/e2e

check: $(STAMP) ## Lint, types, layers and unit tests, in under two minutes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint images/*/Dockerfile
	$(BIN)/mypy -p frostline_operator -p frostline_trainer -p charts.grafana -p frostcluster
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q $(PARALLEL) tests/unit

generate: $(STAMP) ## Write what is derived: crds/, docs/reference.md, and the chart's definitions, values table and schema
	$(BIN)/frostline crds --output crds
	$(BIN)/frostline crds --reference --output docs
	$(BIN)/python charts/generate.py

dashboards: $(STAMP) ## Write the Grafana dashboards of charts/grafana into the chart
	$(BIN)/python -m charts.grafana

format: $(STAMP) ## Put the code into its standard form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure what the README and docs quote (about half an hour)
	$(BIN)/python benchmarks/packing.py
	$(BIN)/python benchmarks/memory.py accuracy
	$(BIN)/python benchmarks/studies.py

bench-paper: $(STAMP) $(DIAMONDS) ## Does training few layers find the right hyperparameters? (an hour; goes on where it was stopped)
	$(BIN)/python -m benchmarks.paper

bench-peers: $(BENCH_VENV)/.installed ## Frostline beside Optuna, NePS, Syne Tune and Ray Tune, in an environment of its own
	$(BENCH_VENV)/bin/python -m benchmarks.peers

$(DIAMONDS): # the table of the MLP: 53,940 diamonds, which plotnine carries
	$(BIN)/python -m pip install --quiet --no-deps --target .bench/plotnine plotnine==0.15.9
	mkdir -p $(@D) && cp .bench/plotnine/plotnine/data/diamonds.csv $@

$(BENCH_VENV)/.installed: $(STAMP) benchmarks/peers/requirements.txt # on top of the product's, which it leaves alone
	$(BIN)/python -m venv $(BENCH_VENV)
	$(BIN)/python -c 'import site; print(f"import site; site.addsitedir({site.getsitepackages()[0]!r})")' \
	  > $$($(BENCH_VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/frostline.pth
	$(BENCH_VENV)/bin/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt
	@touch $@

images: ## Build the images of operator and trainer (IMAGE_PREFIX, TAG, BUILDER, BUILD_ARGS)
	@test -n "$(BUILDER)" || { echo "docker, podman or buildah is needed; name another one with BUILDER="; exit 1; }
	for part in operator trainer; do \
	  $(BUILDER) build --file images/$$part/Dockerfile --tag $(IMAGE_PREFIX)/$$part:$(TAG) \
	    --build-arg VERSION=$(TAG) --build-arg REVISION=$$(git rev-parse HEAD) $(BUILD_ARGS) . || exit 1; \
	done

cluster: $(STAMP) ## Start a whole real Kubernetes on this machine (Linux, root, Go; minutes to build the first time)
	PYTHONPATH=tests/cluster $(BIN)/python -m frostcluster up

try: $(STAMP) ## Start a cluster with Frostline installed by its chart, and say what to type next (as make cluster)
	PYTHONPATH=.:tests/cluster $(BIN)/python -m tests.e2e.trying try

try-env:
	@PYTHONPATH=tests/cluster $(BIN)/python -m frostcluster env --name try

try-down: ## Remove what make try started
	PYTHONPATH=tests/cluster $(BIN)/python -m frostcluster down --name try

cluster-down: $(STAMP) ## Stop it and clean up after it
	PYTHONPATH=tests/cluster $(BIN)/python -m frostcluster down

clean: ## Remove the environment, the demo and all caches of this folder
	rm -rf $(VENV) $(BENCH_VENV) $(DEMO) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
