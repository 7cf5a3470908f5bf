# make run    the whole city on this machine      make test   every test
# make check  lint, types, import rules           make package  what is deployed
# make thorough  what takes long too                  make drill    the promises, while everything breaks
# make image  the forwarder's container image, amd64 and arm64     make vulnerabilities  known ones in what is locked
# make lock   the locks anew from their .in files
# make viewer the stock OHIF viewer for the page (needs Node.js)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STATE ?= state
PORTS ?= 8080
STAGE ?= prod
RUNTIME ?= python3.13
SECONDS ?= 60
EACH ?= 60
COUNT ?= 60

# The tests start hundreds of processes: what one of them compiled serves the others, whatever the environment says.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test thorough check package viewer drill mutants survivors bench fuzz setup clean image lock reproducible vulnerabilities

run: setup
	@$(BIN)/python -m local up --state $(STATE) --ports $(PORTS)

test: setup
	$(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder --durations=25 --durations-min=5 --junit-xml=build/tests.xml

thorough: setup
	THOROUGH=1 $(BIN)/python -m pytest -n 4 --dist loadscope --no-loadscope-reorder --durations=25 --durations-min=5 --junit-xml=build/tests.xml

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p chalicelib -p app -p local -p infra -p forwarder -p pixels
	$(BIN)/lint-imports
	$(BIN)/cfn-lint -r eu-south-1 -- $(wildcard infra/account.yaml infra/city.yaml infra/institution.yaml infra/viewer.yaml)
	$(BIN)/cfn-lint -r us-east-1 -- infra/budget.yaml
	$(BIN)/python -m infra.package --check

package: setup
	$(BIN)/python -m infra.package --stage $(STAGE) --runtime $(RUNTIME)
	$(BIN)/python -m forwarder.build build/forwarder
	$(BIN)/python -m infra.bill

# What two builds make of the same sources is the same, byte for byte, wherever and by whomever they are checked out.
reproducible: setup
	$(BIN)/python -m infra.reproducible

image: setup
	$(BIN)/python -m forwarder.image build/forwarder

# The tools have an environment of their own: what they need is no business of the others'.
$(VENV)/tools/.installed: requirements/tools.txt | setup
	@$(BIN)/python -m venv $(VENV)/tools
	@$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

# Versions stay as they are unless a .in file, or UPGRADE="--upgrade-package NAME", says otherwise.
lock: $(VENV)/tools/.installed
	PATH="$(CURDIR)/$(VENV)/tools/bin:$$PATH" $(BIN)/python -m infra.locks $(UPGRADE)

vulnerabilities: $(VENV)/tools/.installed
	$(BIN)/python -m infra.vulnerabilities --auditor $(VENV)/tools/bin/pip-audit

# make drill SECONDS=600 [SEED=7]: the city under load while everything breaks
drill: setup
	$(BIN)/python -m drill --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

# make mutants [ONLY=5]: each promise broken on purpose, and the tests that notice
mutants: setup
	$(BIN)/python -m tests.mutants $(ONLY)

# make survivors [COUNT=60 SEED=7]: mutations at random in the rules and the spool; those that no test notices
survivors: setup
	$(BIN)/python -m tests.mutants.sampler --count $(COUNT) $(if $(SEED),--seed $(SEED))

# make bench: ours beside Orthanc and DCMTK in one run; docs/performance.md has the last
bench: setup
	$(BIN)/python -m bench.peers --json build/bench.json

# make fuzz [EACH=60]: hostile input for every reader, so many seconds each; again: goes on
fuzz: setup
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz --seconds $(EACH)
	$(BIN)/python -m tests.fuzz --seconds $(EACH) --guided
	$(BIN)/python -m tests.fuzz.doors
	$(BIN)/python -m tests.fuzz.openapi --seconds $(EACH)

viewer:
	cd viewer && npm ci --silent && node build.mjs

setup: $(VENV)/.installed

$(VENV)/.installed: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; say make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "  installing what running and testing need (once) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
	@touch $@

clean:
	rm -rf $(VENV) build state .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
