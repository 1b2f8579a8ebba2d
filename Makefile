# `make` prints the menu: each target's line below, after the two hashes. `make run` and `make test` need nothing but
# this clone, Python 3.11 or newer, and a package registry; all they write stays inside the clone.

.DEFAULT_GOAL := menu
MAKEFLAGS += --no-print-directory

# What a person may set: make test ARGS="-k journal", make sim SEED=17, make PYTHON=/opt/python3.13/bin/python3 run.
ARGS ?=
PYTHON ?=
SEED ?=
SEEDS ?=
ORDER ?=
STATE ?= .understudy
WORKERS ?= auto
BOUNDS ?= large
FOR ?= 600
PROCESSES ?= 2

python := .venv/bin/python
pytest := $(python) -m pytest
parallel := -n $(WORKERS) --dist worksteal

export PYTHON
export TMPDIR := $(CURDIR)/.venv/tmp
export MYPY_CACHE_DIR := .mypy_cache
export RUFF_CACHE_DIR := .ruff_cache
unexport PYTHONPATH PYTHONHOME

.PHONY: menu run test check lint house unit sim sim-long prove flows flows-rewrite acceptance bench soak story graph docs clean

menu: ## print this menu
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

run: ready-run ## run the first example to its end: a workflow on real data, with its state in .understudy
	$(python) -m engine run examples/01_report/workflow.yaml --state $(STATE) $(ARGS)

test: ready-dev ## all tests but the long ones (ARGS="-k journal" chooses)
	$(pytest) $(parallel) -m "not soak" $(ARGS)

check: lint house unit ## format, lint, types, house and unit tests: some minutes

lint: ready-dev ## format, lint and types
	$(python) -m ruff format --check --quiet .
	$(python) -m ruff check --quiet .
	$(python) -m mypy

house: ready-dev ## floors, sizes, names, documents: is the house in order?
	$(pytest) tests/test_house.py -q $(ARGS)

unit: ready-dev ## the tests without the slow ones, real processes, simulated seeds and benchmarks
	$(pytest) $(parallel) -q -m "not slow and not acceptance and not soak" --ignore=tests/acceptance --ignore=tests/sim \
	  --ignore=tests/benchmarks --ignore=tests/test_house.py $(ARGS)

sim: ready-dev ## simulated clusters under faults (SEED=17 replays one, SEEDS=500 tries as many)
	$(if $(SEED),UNDERSTUDY_SEED=$(SEED)) $(if $(SEEDS),UNDERSTUDY_SEEDS=$(SEEDS)) \
	  $(pytest) $(if $(SEED),-s -k test_one_seed,$(parallel)) tests/sim $(ARGS)

sim-long: ready-dev ## simulated clusters for FOR seconds in PROCESSES processes, with figures (ARGS="--kind pairs")
	$(python) -m tests.sim --seconds $(FOR) --processes $(PROCESSES) $(ARGS)

prove: ready-dev ## search every world of the failover rules, then without each rule (long; BOUNDS=quick: minutes)
	$(python) -m tests.prove --bounds $(BOUNDS) $(ARGS)
	$(python) -m tests.prove --planted

flows: ready-dev ## the golden transcripts, compared
	$(pytest) -q tests/rules/test_flows.py tests/rules/pair/test_drama.py tests/simulation/test_director_flows.py $(ARGS)

flows-rewrite: ready-dev ## the golden transcripts, written anew; review them as a diff
	UNDERSTUDY_REWRITE=1 $(pytest) -q tests/rules/test_flows.py tests/rules/pair/test_drama.py tests/simulation/test_director_flows.py $(ARGS)

acceptance: ready-dev ## real processes, kill -9, real files
	$(pytest) tests/acceptance -m "not soak" $(ARGS)

bench: ready-dev ## measure, beside the rates of this machine; results as JSON in bench-results
	$(python) -m tests.benchmarks $(ARGS)

soak: ready-dev ## the long tests: hours of kill -9
	$(pytest) -m soak --timeout 0 $(ARGS)

story: ready-run ## everything one order caused: ORDER=… STATE=…
	@test -n "$(ORDER)" || { echo "say which order: make story ORDER=… STATE=…"; exit 2; }
	$(python) -m engine journal dump $(STATE) --order $(ORDER) $(ARGS)

graph: ready-dev ## the floors, drawn from the real imports (ARGS=--mermaid)
	@$(python) -m tests.house.graph $(ARGS)

docs: ready-dev ## write the pages that come from the source: docs/problems.md, docs/events.md
	@$(python) -m tests.house.catalogue

clean: ## remove what was built and cached; the orders in .understudy stay
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis bench-results build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: ready-run ready-dev
ready-run ready-dev: ready-%:
	@sh .ci/venv $*
