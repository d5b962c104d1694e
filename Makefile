# Everything a newcomer needs: "make run" to see it, "make test" to check it. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# umockdev's library must be loaded before Python starts: it shows recorded devices to libudev.
UNDER_UMOCKDEV := umockdev-wrapper
PYTEST := $(UNDER_UMOCKDEV) $(BIN)/python -m pytest

.PHONY: run venv test unit functional test-integration test-e2e cloud lint typing docs format genconfig generate bench check clean help

help:
	@echo "make run         see it work: a Placement of its own, recorded devices where there are none"
	@echo "make test        unit and functional tests (real Placement, real libudev, real nova-scheduler)"
	@echo "make venv        only set up $(VENV), with the openstack client"
	@echo "make test-integration   a virtual host with real USB, udev and libvirt (builds it first: some minutes)"
	@echo "make test-e2e    nova, keystone, placement and glance on loopback, that virtual host as their compute node"
	@echo "make cloud       the same cloud, left running to play with"
	@echo "make lint typing ruff, codespell, mypy"
	@echo "make docs        the documents as one site, in build/docs; a broken link is an error"
	@echo "make bench       requests, seconds, memory and latency, as a table"
	@echo "make generate    write anew what is made from the code: the sample configuration, man pages, completion, pictures, tables"

run: $(VENV)/.run
	@$(BIN)/usb-provider demo $(ARGS)

venv: $(VENV)/.dev

# Nova in a process of its own: its fixtures change logging, warnings and more for everything that comes after.
test: $(VENV)/.dev
	$(PYTEST) --ignore=tests/functional/nova $(ARGS)
	$(PYTEST) tests/functional/nova $(ARGS)

unit: $(VENV)/.dev
	$(PYTEST) tests/unit $(ARGS)

functional: $(VENV)/.dev
	$(PYTEST) tests/functional --ignore=tests/functional/nova $(ARGS)
	$(PYTEST) tests/functional/nova $(ARGS)

test-integration: $(VENV)/.dev
	@tools/install-system-packages.sh run integration
	@PYTHON=$(BIN)/python tests/integration/lab/build.sh
	$(BIN)/python -m pytest tests/integration -o faulthandler_timeout=0 $(ARGS)

test-e2e: $(VENV)/.cloud
	@PYTHON=$(BIN)/python tests/integration/lab/build.sh
	$(BIN)/python -m pytest tests/e2e -o faulthandler_timeout=0 $(ARGS)

cloud: $(VENV)/.cloud
	@PYTHON=$(BIN)/python tests/integration/lab/build.sh
	@$(BIN)/python -m tests.e2e.lab.cloud

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md conf devstack docs placement_traits releasenotes tests tools usb_provider

typing: $(VENV)/.dev
	$(BIN)/mypy

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -W --keep-going -n -q -c docs . build/docs
	@echo "build/docs/docs/index.html"

format: $(VENV)/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

genconfig: $(VENV)/.dev
	$(BIN)/oslo-config-generator --config-file conf/config-generator.conf

# What is made from the code and committed. The pictures are committed for those who read the pages on a forge.
generate: genconfig $(patsubst %.dot,%.svg,$(wildcard docs/images/*.dot))
	$(BIN)/python tools/generate.py

%.svg: %.dot
	dot -Tsvg $< -o $@

bench: $(VENV)/.dev
	$(UNDER_UMOCKDEV) $(BIN)/python -m tests.bench.bench $(ARGS)

check: lint typing docs test

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.run: pyproject.toml bindep.txt tools/install-system-packages.sh
	@tools/install-system-packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Python packages into $(VENV) (a minute or so the first time)"
	@$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --editable ".[demo]"
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@tools/install-system-packages.sh run test
	@[ -z "$$CI" ] || tools/install-system-packages.sh promtool
	@echo "Installing what the tests need into $(VENV) (nova among it: another minute or two)"
	@$(BIN)/python -m pip install --quiet --group test --group nova --group lint --group docs --group kolla
	@touch $@

$(VENV)/.cloud: $(VENV)/.dev
	@tools/install-system-packages.sh run integration cloud
	@echo "Installing keystone and glance into $(VENV)"
	@$(BIN)/python -m pip install --quiet --group cloud
	@touch $@
