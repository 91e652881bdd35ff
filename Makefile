# Every target sets itself up: the virtual environment is made once, and again when pyproject.toml changes.

PYTHON ?= python3
FUZZ ?= 100000
SEED ?= 20261122
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_INSTALLED := $(VENV)/.demo
SDKS := .venv-sdks

.PHONY: demo test e2e test-litellm drift frameworks fuzz chaos lint types audit docs bench clean

demo: $(DEMO_INSTALLED)  ## Example program against a stand-in of the providers, and its cost by model
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

test: $(INSTALLED)  ## All tests
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-litellm: $(INSTALLED)  ## litellm's tests, in an environment of their own: it may want another openai than .venv has
	scripts/check-sdk-drift litellm --newest --keep --cache $(SDKS)

drift: $(INSTALLED)  ## Each SDK's tests with its oldest and its newest version, each in an environment of its own
	scripts/check-sdk-drift --jobs 2

frameworks: $(INSTALLED)  ## Frameworks with our instrumentation, others' and both: one bill a call; some minutes
	scripts/check-frameworks

e2e: $(INSTALLED)  ## Real OpenTelemetry Collector, Jaeger and Node.js programs; needs Go, and builds them once
	@set -e; for each in otelcol jaeger docker-compose; do e2e/build.sh $$each >/dev/null; done
	$(BIN)/pytest e2e

fuzz: $(INSTALLED)  ## FUZZ mutated answers through all wire readers, as many sessions and as many batches
	SPANLEDGER_FUZZ=$(FUZZ) $(BIN)/pytest -s --timeout 0 tests/instrumentation/wire -k mutated

chaos: $(INSTALLED)  ## Kills, forks, faults and 200 000 calls; SEED=n for other random ones; a table of what came of it
	SPANLEDGER_CHAOS=$(SEED) $(BIN)/pytest tests/chaos

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

audit: $(INSTALLED)  ## Known vulnerabilities of what spanledger depends on; needs access to an advisory service
	@scripts/audit $(BIN)

docs: $(INSTALLED)  ## The documentation site, in site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(INSTALLED)
	@set -e; for each in benchmarks/[a-z]*.py; do echo "== $$each"; $(BIN)/python $$each; done

clean:
	-[ ! -x $(BIN)/spanledger ] || SPANLEDGER_HOME=.demo $(BIN)/spanledger down
	rm -rf $(VENV) $(SDKS) .demo site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "spanledger needs Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment: on Debian and Ubuntu, apt install python3-venv"; exit 1; }

$(DEMO_INSTALLED): pyproject.toml | $(BIN)/python
	@[ $(INSTALLED) -nt pyproject.toml ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

# Older versions of pip lose their way among so many packages.
$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
