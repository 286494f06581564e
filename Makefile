# Everything sets itself up: on Debian 12 only python3, make and root are needed (deploy/setup.sh installs the rest, once).
SHELL := /bin/bash
PYTHON := .venv/bin/python
# test-lowest and test-latest set it; what runs below, such as a bundle's install.sh, has its own meaning for it.
unexport PYTHON
TESTS ?= tests
PYTEST_FLAGS ?= --durations=15

.DEFAULT_GOAL := help
TARGETS := help setup demo test lint house pages format types pytest clean distclean

help: ## Say what there is
	@for target in $(TARGETS); do sed -nE "s/^($$target):.* ## (.*)/  make \1\t\2/p" Makefile; done | expand -t 22

setup: ## Install what is missing (root), and the virtual environment
	@deploy/setup.sh

demo: setup ## A broker, two guests and real containers, in under a minute
	@$(PYTHON) client/examples/demo.py

test: lint types pytest ## Everything that must hold: lint, types, and all tests

lint: setup ## ruff, the import contracts, generated pages and links
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports
	PYTHONPATH=docs $(PYTHON) -m corral_docs --check

house: setup ## Show what stands out: large classes, full folders, long functions (a mirror: it never fails)
	@$(PYTHON) tests/house/house.py

pages: setup ## Write the generated pages of docs/ again
	PYTHONPATH=docs $(PYTHON) -m corral_docs

.PHONY: docs
TARGETS += docs
docs: pages ## The documents as a site: build/site
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

format: setup ## Let ruff put the code into its form
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

types: setup ## mypy --strict
	.venv/bin/mypy

# Tests on real guests need QEMU and images, which are made before (and kept).
pytest: setup $(if $(filter tests tests/vm%,$(TESTS)),vm-prepared) ## The tests alone (TESTS=tests/broker for some)
	@deploy/setup.sh tests
	$(PYTHON) -m pytest $(PYTEST_FLAGS) $(TESTS)

TARGETS += lock test-lowest test-latest
lock: ## Renew the lock: everything at its newest version (ONLY="click rich": only these)
	@deploy/setup.sh lock $(ONLY)
test-lowest: setup ## The tests on the lowest versions that pyproject.toml admits (TESTS=tests/broker for some)
	@PYTHONPATH=deploy/lock $(PYTHON) -m corral_lock lowest
	@$(MAKE) --no-print-directory pytest PYTHON=.venv-lowest/bin/python
test-latest: setup ## The tests on the newest versions there are
	@PYTHONPATH=deploy/lock $(PYTHON) -m corral_lock latest
	@$(MAKE) --no-print-directory pytest PYTHON=.venv-latest/bin/python

ifneq ($(wildcard benchmarks/run.py),)
TARGETS += bench bench-quick
bench: setup ## Every figure the README quotes
	$(PYTHON) benchmarks/run.py --full
bench-quick: setup ## The same, shorter and rougher
	$(PYTHON) benchmarks/run.py --quick
endif

ifneq ($(wildcard tests/simulation/run.py),)
SEEDS ?= 2000
TARGETS += simulate
simulate: setup ## Search for holes under simulated faults (SEEDS=2000)
	$(PYTHON) tests/simulation/run.py --seeds $(SEEDS) --jobs 2
	$(PYTHON) tests/simulation/run.py --first 1000000 --seeds $$(($(SEEDS) / 20)) --jobs 2
BITES ?= 2000
TARGETS += bite
bite: setup ## Break the code in one line, and see how many seeds it takes until that is found (BITES=2000)
	$(PYTHON) tests/simulation/bite.py --seeds $(BITES) --jobs 2 --write
endif

SILENCE ?= 200
TARGETS += test-silence
test-silence: setup ## Readers of silent processes, in real time (SILENCE=200 seconds; make test spends 40)
	CORRAL_SILENCE_S=$(SILENCE) $(PYTHON) -m pytest $(PYTEST_FLAGS) tests/integration/test_silence.py

TARGETS += screens
screens: setup ## Pictures of the command line, drawn from a real terminal: client/screens/*.svg
	@deploy/setup.sh tests
	$(PYTHON) tests/screens/run.py

ifneq ($(wildcard tests/hostile/fuzz.py),)
MESSAGES ?= 1000000
.PHONY: fuzz
fuzz: setup ## Hostile messages on every port of a broker with keys, and on a worker (MESSAGES=1000000)
	$(PYTHON) tests/hostile/fuzz.py --messages $(MESSAGES)
endif

ifneq ($(wildcard tests/chaos/run.py),)
MINUTES ?= 5
# What the guarantees give big sizes for; `make test` runs the same, scaled down.
FULL_SIZE := $(addprefix tests/,chaos/test_worker_restarts.py chaos/test_lifecycle_machine.py integration/test_promises.py integration/test_stdio.py)
SEED ?= 1
TARGETS += chaos
chaos: setup ## Search for holes with real processes, killed at random, and run full-size tests (MINUTES=5 SEED=1)
	$(PYTHON) tests/chaos/run.py --minutes $(MINUTES) --seed $(SEED)
	CORRAL_TEST_SIZE=full $(PYTHON) -m pytest $(PYTEST_FLAGS) $(FULL_SIZE)

CYCLES ?= 10000
TARGETS += cycles
cycles: setup ## Make, use and delete containers, and look for what is left and what grows (CYCLES=10000)
	$(PYTHON) tests/chaos/cycles.py --cycles $(CYCLES)
endif

# Which Debian the guests are: bookworm, trixie or sid.
SUITE ?= bookworm
export SUITE
VM := PYTHONPATH=deploy/vm:deploy/lock $(PYTHON) -m corral_vm
N ?= 3
TARGETS += vm-up vm-down bundle guest-image
.PHONY: vm-ready vm-prepared vm-unplug vm-plug vm-kill vm-freeze vm-thaw
vm-ready: setup
	@deploy/vm/setup.sh
vm-up: vm-ready ## A broker with keys and N=3 guests in QEMU, enrolled by tokens (installs QEMU)
	@$(VM) up --guests $(N)
vm-down: setup ## End them; nothing is left but the cached image
	@$(VM) down
TARGETS += vm-unplug
vm-unplug: setup ## Pull a guest's cable (GUEST=vm2); also vm-plug, vm-kill, vm-freeze, vm-thaw
	@$(VM) unplug $(GUEST)
vm-plug: setup
	@$(VM) plug $(GUEST)
vm-kill: setup
	@$(VM) kill $(GUEST)
vm-freeze: setup
	@$(VM) freeze $(GUEST)
vm-thaw: setup
	@$(VM) thaw $(GUEST)
bundle: setup ## One tar of Corral and all it needs, for VMs without a network (FOR=3.13: the Python of those VMs)
	@$(VM) bundle $(if $(FOR),--python=$(FOR))
guest-image: vm-ready ## A bootable guest with systemd, its worker and runc: kernel, initramfs, root
	@$(VM) image
vm-prepared: vm-ready
	@$(VM) prepare
test-vm: vm-prepared ## The tests on real guests alone (SUITE=bookworm, trixie or sid)
	$(PYTHON) -m pytest $(PYTEST_FLAGS) tests/vm
TARGETS += test-vm

clean: ## Remove caches and results
	rm -rf build dist corral-runs .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environments too
	rm -rf .venv .venv-lowest .venv-latest

.PHONY: $(TARGETS)
