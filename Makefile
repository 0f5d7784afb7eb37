# `make run` and `make test` need make and Python 3.11 or later, nothing else.

VENV := .venv
python := $(VENV)/bin/python
pip_install := $(python) -m pip --disable-pip-version-check --no-input install --quiet --require-hashes

# What `make run` adds: make run ARGS="--listen 127.0.0.1:5353"
ARGS ?=
# What `make test` passes to pytest: make test TESTS="tests/dns -k edns"
TESTS ?=
# For how long `make fuzz` tries inputs and `make chaos` breaks things, in seconds; 0 is until fuzz finds something
SECONDS ?= 3600
# What `make chaos` chooses by; without it the clock does
SEED ?=
# The name that `make image` gives
IMAGE ?= discoverd

.DEFAULT_GOAL := help
.PHONY: help run test lint format docs bench fuzz chaos image lock clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## serve examples/discoverd.toml, and the local Docker Engine where there is one
	@exec $(python) -m discoverd serve --config "$${DISCOVERD_CONFIG:-examples/discoverd.toml}" $(ARGS)

test: lint ## check everything; the last lines say what was skipped
	@$(python) -m pytest $(TESTS)

lint: $(VENV)/.dev ## style and types only
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@$(python) -m mypy

format: $(VENV)/.dev ## mend what style can be mended by itself
	@$(python) -m ruff check --fix
	@$(python) -m ruff format

docs: $(VENV)/.runtime ## renew the pages that are made from the code
	@$(python) -m discoverd manual >docs/discoverd.1
	@$(python) -m discoverd reference configuration >docs/configuration.md
	@$(python) -m discoverd reference labels >docs/labels.md

bench: $(VENV)/.dev ## run discoverd and its peers side by side
	@$(python) -m bench.run $(ARGS)

fuzz: $(VENV)/.dev ## try inputs on the query handler, guided by coverage: make fuzz SECONDS=600
	@mkdir -p .cache/fuzz .cache/fuzz-found
	@$(python) -m tests.fuzz.fuzz_handler .cache/fuzz tests/fuzz/corpus \
	  -max_total_time=$(SECONDS) -artifact_prefix=.cache/fuzz-found/ $(ARGS)

chaos: $(VENV)/.dev ## break engine, agent and server while all is asked: make chaos SECONDS=3600 SEED=1
	@$(python) -m tests.chaos.run --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

image: ## build the container image
	docker build --tag $(IMAGE) .

lock: $(VENV)/.dev ## resolve the dependencies anew and write them with their hashes
	@test -x .cache/uv/bin/uv || { $(python) -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv; }
	@set -e; for lock in ".lock pyproject.toml" "-dev.lock pyproject.toml --group dev" "-image.lock --group image"; do \
	  .cache/uv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --no-config --custom-compile-command "make lock" --output-file requirements$$lock; done

clean: ## forget the virtual environment and every cache
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find discoverd tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed once for each state of the lock; $(VENV)/bin/discoverd is the command, run from this tree
$(VENV)/.runtime: requirements.lock $(python)
	@echo "installing what discoverd needs" && $(pip_install) -r $<
	@printf '#!%s\nimport sys\n\nsys.path.insert(0, "%s")\nfrom discoverd.cli import main\n\nmain()\n' \
	  '$(CURDIR)/$(python)' '$(CURDIR)' >$(VENV)/bin/discoverd && chmod 755 $(VENV)/bin/discoverd && touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@echo "installing what the tests need" && $(pip_install) -r $< && touch $@

# The first interpreter that is new enough. Debian keeps venv in a package of its own.
$(python):
	@set -e; \
	for found in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
	  "$$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; found=; \
	done; \
	[ -n "$$found" ] || { echo "discoverd needs Python 3.11 or later: make PYTHON=/path/to/python3" >&2; exit 1; }; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing python3-venv"; export DEBIAN_FRONTEND=noninteractive; \
	    said=$$( (apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv) 2>&1) \
	      || echo "$$said" >&2; \
	  fi; \
	  "$$found" -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$$found cannot make virtual environments: apt-get install python3-venv, as root" >&2; exit 1; }; \
	fi; \
	"$$found" -m venv --clear $(VENV)
