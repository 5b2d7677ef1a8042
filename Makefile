# Each target does the set-up that it needs and skips what is done. A bare checkout takes python3
# (3.11 or newer), make, and a network that reaches a package index.
.SILENT:
.DEFAULT_GOAL := help
.PHONY: help demo unit test duration campaign coverage check fmt bench docs clean images engine \
  postgres chromium

# What is set up for `make test` waits for the network and unpacks, on one core each.
MAKEFLAGS += --jobs=2

BIN := .venv/bin
# The base that `images` chose; and a home for what Airflow writes, never the user's own.
ENV = AIRFLOW_TORCHX_BASE_IMAGE="$$(cat .cache/base-image)" AIRFLOW_HOME="$(CURDIR)/.cache/airflow"

# The tests' other environments: TorchX's two, and ours with the lowest versions that it admits.
VENVS := .venv-lowest .venv-torchx .venv-torchx-0.7
LOWEST = sed -n '/^dependencies/,/^]/s/^ *"\([a-z0-9-]*\)>=\([0-9.]*\).*/\1==\2/p' pyproject.toml

# Where it is set, as in many images, each worker compiles all tests again, which takes 8 s of a core,
# and each process that a test starts compiles this package, which takes 0.15 s.
export PYTHONDONTWRITEBYTECODE :=

# Of what the campaign draws; a report names it.
SEED := $(or $(SEED),$(shell date +%s))

# Two long lanes, see tests/conftest.py, and two for all that may run beside them: a test waits for
# daemons, Airflow and PyTorch in a container about half of its time.
LANES = --numprocesses 4 --dist loadgroup --no-loadscope-reorder

help: ## show this list
	sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

demo: images ## train with PyTorch in two containers, from an Airflow DAG
	$(ENV) container/demo.sh

unit: .venv/.installed ## run the tests that need no engine and no server
	AIRFLOW_HOME="$(CURDIR)/.cache/airflow" $(BIN)/pytest --numprocesses 2 tests/unit

test: duration check images postgres chromium $(VENVS:=/.installed) ## check, then run all tests against a real engine
	$(ENV) $(BIN)/pytest $(LANES)

# The first line on the screen of `make test`.
duration:
	echo "make test: all checks and tests, about 25 minutes on 2 cores."
	echo "First the set-up of what is missing: Python environments, a Docker Engine, images,"
	echo "PostgreSQL, Node and a browser. That takes some minutes more."

campaign: images postgres ## kill Airflow's processes, and launches, at every point, as SEED=... draws
	$(ENV) $(BIN)/pytest tests/airflow/test_chaos.py tests/airflow/test_gpu_queue.py \
	  tests/integration/test_gpu_race.py tests/integration/test_rounds.py \
	  tests/integration/test_resumable_training.py tests/integration/test_prune.py \
	  tests/swarm/test_placement.py tests/swarm/test_tasks.py tests/swarm/test_faults.py \
	  tests/swarm/test_managers.py tests/swarm/test_training.py \
	  tests/airflow/test_swarm_campaign.py tests/contract \
	  --campaign $(SEED)

coverage: images ## show which lines the tests run that need no server
	$(ENV) $(BIN)/pytest --cov tests/unit tests/contract

# What the rules of English in CONTRIBUTING.md rule out.
PROSE = airflow_torchx container dags docs tests *.md --include=*.py --include=*.md --include=*.sh

check: .venv/.installed .cache/node/.installed ## lint, formatting, types, layers, phrases
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	.cache/node/node_modules/.bin/tsc --project tests/ui/tsconfig.json
	! grep -rniEf tests/banned-phrases.txt $(PROSE)

fmt: .venv/.installed ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

bench: images chromium .venv-torchx/.installed ## measure, side by side with TorchX
	$(ENV) $(BIN)/python tests/benchmarks/run.py

docs: .venv/.installed ## draw the picture of the README, and build the pages as a site
	$(BIN)/python docs/tools/failure_card.py docs/failure-card.svg
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	echo "See .cache/site/index.html. To search: $(BIN)/python -m http.server -d .cache/site"

engine: .venv/.installed ## make sure that a Docker Engine answers; start one where we may
	container/engine.sh

images: engine ## make sure that the images of the tests and the demo are there
	container/images.sh

postgres: ## make sure that the tests can start a PostgreSQL
	container/postgres.sh

chromium: ## make sure that the tests of the page have a browser
	container/chromium.sh

clean: ## remove what set-up made here, but never an engine
	test ! -x $(BIN)/python || $(BIN)/python container/client.py remove \
	  airflow-torchx/busybox:local airflow-torchx/pytorch:local || true
	rm -rf .venv $(VENVS) .cache .*_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml
	container/venv.sh .venv -e '.[dev]'

.cache/node/.installed: tests/ui/package.json container/node.sh
	container/node.sh

.venv-lowest/.installed: pyproject.toml
	container/venv.sh .venv-lowest $$($(LOWEST))

.venv-torchx/.installed:
	container/venv.sh .venv-torchx torchx-nightly

.venv-torchx-0.7/.installed:
	container/venv.sh .venv-torchx-0.7 torchx==0.7.0
