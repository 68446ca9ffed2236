# make run     set up, then the live demonstration: three scrapers, one is killed, the others take over
# make test    set up, then every test, the ones on real servers too
# make quick [SINCE=COMMIT]  the quick tests of what was changed since the last commit (seconds), for while you work
# make unit    what needs no real server and no simulation (three minutes on two cores)
# make check   lint, types, import contracts, shellcheck
# make lowest  the unit tests with the lowest versions of what promring needs, as pyproject.toml declares them
# make faults  every failure on real servers, the long ones too (20 minutes), and the table of them
# make long    what takes minutes and is no row of that table (10 minutes): a Debian package, the role and the wheel installed, every
#              kind of bad answer for every command, 100,000 cycles of a loop
# make consul14  builds a current Consul for the tests that need one (ten minutes, once; needs Go); without it they skip
# make pages   writes what is made from code: the pages of API, commands, metrics and keys, dashboard, schema
# make sdoracle  builds Prometheus' own discovery packages as a program, with which targets from Consul are compared (a
#              minute, once; needs Go); without it that test skips
# make kube-apiserver  builds one for the tests of the lock in Kubernetes (five minutes, once; needs Go); without it they skip
# make lock    renew the pinned dependencies
# make docs    the documentation as a site in site/; a link that leads nowhere is an error
# make dist    wheel, source archive and Debian package into dist/, tried in clean places
# make bench   what the performance claims rest on
# make sim SEEDS=20000 [FIRST=0] [WORKERS=2]  many seeds of the simulation, for a night; says which fail and how to run them again
# make planted  plants each known bug by itself in promring, and says which seed of the simulation finds it (half an hour)
# make fuzz MINUTES=20 [ONLY=json_list,audit] [FUZZ_WORKERS=1]  coverage-guided inputs for every parser of what another program wrote
# make lists MINUTES=20 [SEED=7] [WORKERS=2]  odd target lists by the million, compared with what Prometheus' own decoder makes of them
# make mutants [MODULE=guard] [SHARE=0.2]  small changes of the core by themselves: which of them no test notices
# make soak MINUTES=60 [SEED=7]  real servers with random faults: coverage, memory, tasks, descriptors, threads; writes a plot
# make moves   every planned move on real servers: scrapes missed, gaps, double scrapes (25 minutes)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Most tests wait most of the time: more workers than cores. tests/order.py says which test comes when.
TEST_WORKERS ?= 14
# No test needs the authorities of this machine, and aiohttp reads all of them twice in each process that loads it: 60 ms.
PYTEST := SSL_CERT_FILE=/dev/null $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist load --maxschedchunk 1
SETUP := .make/setup
UV := 0.13.9
COMPILE := $(BIN)/uv pip compile pyproject.toml --generate-hashes --universal --no-header --no-annotate --no-emit-index-url -q
SERVERS := $(or $(PROMRING_SERVERS),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/promring/servers)
RUN_FLAGS ?=
TEST_FLAGS ?=
MOVES_FLAGS ?=
SEEDS ?= 1000
MINUTES ?= 20
SHARE ?= 1
FIRST ?= 0
SINCE ?=
WORKERS ?= $(shell nproc)

# Tests start hundreds of daemons: without Python's cache, a quarter of each start is spent on reading the source again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test tests-read demo-once quick unit check pages lowest faults long bench sim planted mutants fuzz lists soak moves lock servers consul14 kube-apiserver sdoracle docs dist clean
.DEFAULT_GOAL := test

# Not compiled: of 5,700 files the tests read 1,100, which Python compiles as it reads them. That is 15 s of CPU less.
$(SETUP): requirements-dev.lock pyproject.toml
	@echo "setup: creating $(VENV) and installing the pinned dependencies (once, about a minute or two) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps --editable .
	@mkdir -p .make && touch $@
	@echo "setup: done"

servers:
	@scripts/fetch-servers

consul14:
	@scripts/build-consul

kube-apiserver:
	@scripts/build-kube-apiserver

sdoracle:
	@scripts/build-sdoracle

run: $(SETUP) servers
	@$(BIN)/promring demo $(RUN_FLAGS)

# First, side by side, what takes less than a minute: a mistake there ends the run early. The tests are read once before all
# workers read them at the same time: what Python makes of them is then in its cache.
test:
	@$(MAKE) --no-print-directory -j $(SETUP) servers .make/docs
	@$(MAKE) --no-print-directory -j check docs tests-read demo-once
	@echo "test: unit tests and laws, and the real servers, $(TEST_WORKERS) at a time (about 14 minutes on two cores) ..."
	@$(PYTEST) tests --failed-to=.make/failed $(TEST_FLAGS) || $(BIN)/python -m tests.again $$? .make/failed

tests-read: $(SETUP)
	@$(BIN)/python -m pytest --collect-only -qq tests >.make/tests-read || (cat .make/tests-read; false)

demo-once: $(SETUP)
	@echo "demo: the demonstration, once (kills a scraper, exits 0 only if every target is scraped again) ..."
	@$(BIN)/promring demo --once

quick: $(SETUP)
	@$(BIN)/python scripts/test-changed --since "$(SINCE)" -- $(TEST_FLAGS)

unit: $(SETUP)
	@$(PYTEST) -q -m "not real" tests --ignore=tests/sim $(TEST_FLAGS)

check: $(SETUP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@PATH="$$PATH:$(SERVERS)/bin"; if command -v shellcheck >/dev/null; then shellcheck src/promring/delivery/receiver.sh; \
	else echo "check: shellcheck is not here (make servers gets it): receiver.sh is not checked"; fi

docs: .make/docs
	@NO_MKDOCS_2_WARNING=1 .make/docs/bin/python scripts/make-site
	@echo "docs: site/index.html"

.make/docs: requirements-docs.lock
	@echo "docs: installing mkdocs (once) ..."
	@rm -rf $@ && $(PYTHON) -m venv $@
	@$@/bin/pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-docs.lock
	@touch $@

dist:
	@PYTHON="$(PYTHON)" scripts/make-dist

lowest:
	@PYTHON="$(PYTHON)" scripts/test-lowest $(UV) $(TEST_FLAGS)

faults: $(SETUP) servers consul14
	@echo "faults: every row of the failure list on real servers, $(TEST_WORKERS) at a time (about 15 minutes) ..."
	@$(PYTEST) tests --only-rows --long --rows=docs/reliability.md $(TEST_FLAGS)

# Many seeds of the simulation are for make sim.
long: $(SETUP) servers
	@echo "long: the tests that take minutes and are no row of the failure list, $(TEST_WORKERS) at a time (about 10 minutes) ..."
	@$(PYTEST) tests --ignore=tests/sim --long -m "long and not row" $(TEST_FLAGS)

pages: $(SETUP)
	@$(BIN)/python scripts/make-api-page
	@$(BIN)/python scripts/make-commands-page
	@$(BIN)/python scripts/make-metrics-page
	@$(BIN)/python scripts/make-dashboard
	@$(BIN)/python scripts/make-schema
	@$(BIN)/python scripts/make-alerts

bench: $(SETUP) servers
	@$(BIN)/python -m bench

sim: $(SETUP)
	@$(BIN)/python -m tests.sim.nights --seeds $(SEEDS) --first $(FIRST) --workers $(WORKERS)

planted: $(SETUP)
	@$(BIN)/python -m tests.sim.planting --workers $(WORKERS)

mutants: $(SETUP)
	@$(BIN)/python -m mutants $(MODULE) --share $(SHARE)

fuzz: $(SETUP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-fuzz.lock
	@$(BIN)/python -m fuzz --minutes $(MINUTES) --only "$(ONLY)" $(if $(FUZZ_WORKERS),--workers $(FUZZ_WORKERS))

lists: $(SETUP) sdoracle
	@$(BIN)/python -m tests.differential.search --minutes $(MINUTES) --workers $(WORKERS) $(if $(SEED),--seed $(SEED))

soak: $(SETUP) servers
	@$(BIN)/python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

moves: $(SETUP) servers
	@$(BIN)/python -m bench moves $(MOVES_FLAGS)

# Locks of the same versions: what promring needs to run, with ssh and uvloop; what its tests need, too; what fuzzing needs.
lock:
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV)
	@$(COMPILE) --extra dev --extra uvloop -o requirements-dev.lock
	@$(COMPILE) --extra ssh --extra uvloop -c requirements-dev.lock -o requirements.lock
	@$(subst pyproject.toml,fuzz/requirements.in --python-version 3.11,$(COMPILE)) -o requirements-fuzz.lock

clean:
	rm -rf $(VENV) .make .mypy_cache .ruff_cache .pytest_cache .hypothesis
