# Everything runs from a fresh clone: each target sets up what it needs first, once.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
NODE_MODULES := tests/node/node_modules
# apt-get needs root; elsewhere sudo asks for it.
APT := $(if $(filter 0,$(shell id -u)),,sudo )env DEBIAN_FRONTEND=noninteractive apt-get

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.installed $(NODE_MODULES)/.installed $(VENV)/.browser  ## Install everything that running, testing and checking needs

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ($(APT) update -q && $(APT) install -q -y python3-venv)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --editable '.[server]' --group test --group check --group bench
	@touch $@

$(NODE_MODULES)/.installed: tests/node/package-lock.json
	@command -v node >/dev/null && command -v npm >/dev/null || ($(APT) update -q && $(APT) install -q -y --no-install-recommends nodejs npm)
	npm ci --prefix tests/node --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.browser: $(VENV)/.installed
	@command -v chromium >/dev/null || ($(APT) update -q && $(APT) install -q -y --no-install-recommends chromium)
	@touch $@

.PHONY: demo
demo: $(VENV)/.installed  ## See it work: devices send, exports land in a folder, with their manifests
	$(BIN)/python demo/demo.py

.PHONY: serve
serve: $(VENV)/.installed  ## Run the server on port 8080, with its data in ./data
	$(BIN)/outhaul serve --data data

.PHONY: test
test: setup  ## Run the tests, except the heavy ones
	$(BIN)/pytest -n 2 -m "not soak"

.PHONY: soak
soak: setup  ## Run the heavy tests: size, crash and soak
	$(BIN)/pytest -m soak

.PHONY: check
check: $(VENV)/.installed  ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

.PHONY: format
format: $(VENV)/.installed  ## Format the code, mend what can be mended, and generate what is generated
	$(BIN)/python -m outhaul.client.generate
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format
	$(BIN)/python docs/generate.py

.PHONY: bench
bench: $(VENV)/.installed  ## Measure collecting, landing and exporting on this machine
	@command -v wrk >/dev/null || ($(APT) update -q && $(APT) install -q -y wrk)
	$(BIN)/python -m bench

.PHONY: clean
clean:  ## Remove what was installed and built; data folders stay
	rm -rf $(VENV) $(NODE_MODULES) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
