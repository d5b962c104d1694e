# Everything a newcomer needs: "make run" to see it, "make test" to check it. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# umockdev's library must be loaded before Python starts: it shows recorded devices to libudev.
UNDER_UMOCKDEV := umockdev-wrapper
PYTEST := $(UNDER_UMOCKDEV) $(BIN)/python -m pytest
# A process for each core, four at most: a container often sees more cores than it may use. ARGS="-n0" runs everything
# in one process, as a debugger needs it.
SIDE_BY_SIDE := -n logical --maxprocesses=4 --dist=worksteal
# Errors are shown, warnings are not: pip warns of each place that does not have a package, and of being root.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet
# $(call step,WHAT,COMMAND) says what is being done, and in the end how long it took.
step = @echo "$(1) …"; began=$$(date +%s); $(2) && echo "$(1): $$(($$(date +%s) - began)) s"

.PHONY: run venv test unit functional fuzz test-matrix test-lowest test-integration test-e2e test-kolla cloud lab-debian lint typing docs format \
    genconfig generate bench bench-fleet check clean help

help:
	@echo "make run         see it work: a Placement of its own, recorded devices where there are none"
	@echo "make test        unit and functional tests (real Placement, real libudev, real nova-scheduler)"
	@echo "make test-matrix the tests with each release of OpenStack and Python in tools/matrix.py, as a table (an hour or two)"
	@echo "make test-lowest the tests with each lower bound of pyproject.toml"
	@echo "make venv        only set up $(VENV), with the openstack client"
	@echo "make fuzz        hostile input of every kind for a minute, or MINUTES=…"
	@echo "make test-integration   a virtual host with real USB, udev and libvirt (builds it first: some minutes)"
	@echo "make test-e2e    nova, keystone, placement and glance on loopback, that virtual host as their compute node"
	@echo "make test-kolla  Kolla's own images and ours on them, deployed by Kolla-Ansible (as root; builds the images first)"
	@echo "make cloud       the same cloud, left running to play with"
	@echo "make lint typing ruff, codespell, mypy"
	@echo "make docs        the documents as one site, in build/docs; a broken link is an error"
	@echo "make bench       requests, seconds, memory and latency, as a table"
	@echo "make bench-fleet  what a cloud of 1000 hosts costs, with single devices and with pools (ARGS=\"--hosts 10000\")"
	@echo "make generate    write anew what is made from the code: the sample configuration, man pages, completion, pictures, tables"

run: $(VENV)/.run
	@$(BIN)/usb-provider demo $(ARGS)

venv: $(VENV)/.dev

# Nova's tests run in processes of their own: their fixtures change logging, warnings and more for everything that comes
# after. They run also when others have failed. A part of which ARGS selects no test (pytest's exit code 5) has not failed.
define run_tests
@trap 'exit 130' INT; outcome=5; \
for nova in without only; do \
    code=0; $(PYTEST) $(SIDE_BY_SIDE) --nova=$$nova $(1) $(ARGS) || code=$$?; \
    if [ $$outcome = 5 ] || [ $$code != 0 -a $$code != 5 ]; then outcome=$$code; fi; \
done; \
exit $$outcome
endef

test: $(VENV)/.dev
	$(call run_tests)

unit: $(VENV)/.dev
	$(PYTEST) tests/unit $(ARGS)

functional: $(VENV)/.dev
	$(call run_tests,tests/functional)

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.fuzz $(MINUTES)

# ARGS="2025.1 python-3.13" for some rows, ARGS=--write to write the results into docs/development.md.
test-matrix: $(VENV)/.run
	@tools/install-system-packages.sh run test
	@$(BIN)/python tools/matrix.py $(ARGS)

test-lowest: $(VENV)/.run
	@tools/install-system-packages.sh run test
	@$(BIN)/python tools/matrix.py lowest $(ARGS)

test-integration: $(VENV)/.dev
	@tools/install-system-packages.sh run integration
	@PYTHON=$(BIN)/python tests/integration/lab/build.sh
	$(BIN)/python -m pytest tests/integration -o faulthandler_timeout=0 $(ARGS)

# RELEASE=2025.1 for the Nova and Placement of that row of the matrix.
test-e2e: $(VENV)/.dev $(VENV)/.cloud
	@set -e; $(if $(RELEASE),NOVA_PYTHON=$$($(BIN)/python tools/matrix.py --python $(RELEASE)); export NOVA_PYTHON;) \
	PYTHON=$(BIN)/python tests/integration/lab/build.sh; \
	$(BIN)/python -m pytest tests/e2e -o faulthandler_timeout=0 $(ARGS)

test-kolla: $(VENV)/.dev $(VENV)/.cloud
	@tools/install-system-packages.sh run integration cloud kolla
	$(BIN)/python -m tests.kolla.images
	$(BIN)/python -m pytest tests/kolla -o faulthandler_timeout=0 $(ARGS)

# Side by side: the venv, and Debian's part of the virtual machine's image, which take a minute or two each at first.
# All system packages come before: apt does one thing at a time.
cloud:
	@tools/install-system-packages.sh run integration cloud
	@$(MAKE) --silent -j2 $(VENV)/.cloud lab-debian
	@exec $(BIN)/python -m tests.e2e.lab.playground

lab-debian:
	@tests/integration/lab/build.sh debian >/dev/null

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

bench-fleet: $(VENV)/.dev
	$(BIN)/python -m tests.bench.fleet $(ARGS)

check: lint typing docs test

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.run: pyproject.toml bindep.txt tools/install-system-packages.sh
	@tools/install-system-packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(call step,Installing Python packages into $(VENV) (a minute or so the first time),\
	    $(PIP_INSTALL) --upgrade "pip>=25.1" && $(PIP_INSTALL) --editable ".[demo]")
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@tools/install-system-packages.sh run test
	@[ -z "$$CI" ] || tools/install-system-packages.sh promtool
	$(call step,Installing what the tests need into $(VENV) (nova among it: another minute or two),\
	    $(PIP_INSTALL) --group test --group bench --group nova --group lint --group docs --group kolla)
	@touch $@

$(VENV)/.cloud: $(VENV)/.run
	@tools/install-system-packages.sh run integration cloud
	$(call step,Installing Nova and Keystone and Glance into $(VENV) (another minute or so the first time),\
	    $(PIP_INSTALL) --group test --group nova --group cloud)
	@touch $@
