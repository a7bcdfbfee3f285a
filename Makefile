# mtinet: `make help` lists what can be done.  Every target sets up what it needs, once.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO ?= demo
BENCH ?= bench
# a process that dies ends the suite with the name of its test: another in its place may wait for ever
TESTS := -n 2 --dist loadfile --max-worker-restart 0
# two processes: threads beyond one a process would wait for each other by spinning
test test-all: export OMP_NUM_THREADS := 1

.PHONY: help
help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch first and alone: which build it is, CPU or CUDA, is decided by the indexes that pip knows
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "mtinet needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m compileall -q $(VENV)/lib >/dev/null || true
	touch $@

.PHONY: install
install: $(STAMP) ## make .venv with everything pinned as in CI

.PHONY: demo
demo: $(STAMP) ## simulate patients, train, evaluate on held-out ones, show the report (10 to 20 minutes)
	$(BIN)/mtinet demo $(DEMO)

.PHONY: bench
bench: $(STAMP) ## what MTI-Net and other networks cost on this machine (minutes; close other programs)
	$(BIN)/mtinet bench $(BENCH)

.PHONY: test
test: $(STAMP) ## the fast suite
	$(BIN)/python -m pytest $(TESTS) -m "not slow and not acceptance"

# a real browser opens the pages, a real archive (Orthanc) stores the files, dciodvfy and dcmtk judge them;
# without one of them the tests that need it say so and are skipped
PROGRAMS := chromium Orthanc storescu dciodvfy
PACKAGES := chromium orthanc orthanc-dicomweb dcmtk dicom3tools poppler-utils libpango-1.0-0 libpangoft2-1.0-0
$(VENV)/.programs: $(STAMP)
	@missing() { for p in $(PROGRAMS); do command -v $$p >/dev/null || test -x /usr/sbin/$$p || echo $$p; done; }; \
	if [ -n "$$(missing)" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null || true; \
	fi; \
	left=$$(missing | xargs); \
	if [ -n "$$left" ]; then echo "not on PATH: $$left (on Debian, as root: apt-get install $(PACKAGES)): tests that need them will be skipped" >&2; \
	else touch $@; fi

.PHONY: test-all
test-all: $(STAMP) $(VENV)/.programs ## the fast and the slow suite
	$(BIN)/python -m pytest $(TESTS) -m "not acceptance"

.PHONY: acceptance
acceptance: $(STAMP) ## the long checks (hours), by hand
	$(BIN)/python -m pytest --timeout 0 -m acceptance

.PHONY: lint
lint: $(STAMP) ## style, types, layers, licences, the README's results against their files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_dependencies.py
	$(BIN)/python benchmarks/results_table.py --check

.PHONY: format
format: $(STAMP) ## mend the style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## remove .venv and what tools leave behind
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
