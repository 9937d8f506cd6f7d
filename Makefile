# Every target creates a virtual environment in .venv, with the package and its tools inside, and creates it again when
# pyproject.toml, the C shim or the interpreter changes. Needed: python3 with its headers, a C compiler.
#
#   make demo          a Trio server on the ring next to stock Trio, with real clients
#   make test          the tests, with $(PYTHON); make test ARGS="-k name"
#   make test-all      the same with every supported Python: those of this machine, and where there is root the others
#                      from Debian's newest suite, in a folder (tools/newer-pythons)
#   make conformance   the test-suites of Trio, AnyIO and others on stock Trio and on the ring;
#                      make conformance ARGS="--suite trio"
#   make versions      this project's tests of Trio's and AnyIO's sides, and their suites, with the two minor versions of each before
#                      the newest; make versions OLDER=0.33/4.14 for one pair
#   make interpreted   this project's tests of Trio's side, and Trio's and AnyIO's suites, with the Python code in the place of
#                      what is compiled
#   make explore       the same races in many more orders than make test, longer storms, every state of larger models:
#                      some minutes
#   make stress        random programs beside stock Trio, thousands of connections, tiny rings, cancels, bad peers,
#                      Ctrl-C, a soak, forks, kills, power cuts, a ring in each of many threads, failing system calls:
#                      20 minutes;
#                      make stress ARGS="--minutes 3 --seed 7", ARGS="--only soak", ARGS="--report PAGE"
#   make newer-kernel  the doctor and the tests under Debian's newest kernel, in an emulated machine: an hour; root
#   make check         linter, formatter, type checkers; the C by gcc and clang, where each warning is an error
#   make analyse       the C by clang's analyser
#   make docs          the site, in build/docs; warnings are errors
#   make sanitize      random calls, the kernel tests and those of ticks in C, in extensions built by AddressSanitizer,
#                      UBSan and LeakSanitizer; make sanitize ARGS="--calls 1000000 --seed 7", ARGS="--suite trio",
#                      ARGS="--everything" for all tests that reach the C, and Trio's and AnyIO's: hours
#   make refcounts     each path through the C leaves as many references and blocks as it found, by a debug build of
#                      Python; make refcounts ARGS="--operations 1000000"
#   make dist          builds the source distribution and the wheel into dist/, and checks them
#   make bench         the benchmarks; make bench ARGS="--help"; ARGS=--pages measures what the pages show, and writes the
#                      page of benchmarks
#   make count         instructions of what is done most often, by valgrind, against the kept figures; half a minute;
#                      make count ARGS=--record keeps new ones
#   make clean         removes everything the other targets made

PYTHON ?= python3
VENV ?= .venv
# dependency groups of pyproject.toml
WITH ?= test apps conformance check bench
ARGS ?=
# further requirements of the environment
PINS ?=

VERSIONS := 3.11 3.12 3.13 3.14 3.15
# Trio and AnyIO, the two minor versions before the newest, with a pytest of their time.
OLDER := 0.34/4.15 0.33/4.14
BIN := $(VENV)/bin
# Dependency groups take pip 25.1, which is installed first.
INSTALL := pip install -qq --disable-pip-version-check
SHIM := setup.py src/uring_trio.pth $(wildcard src/uring/_shim/* src/uring_trio/seams/*.[ch])
# The interpreter is part of the stamp's name, so that another one makes another environment.
READY := $(VENV)/ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)

.PHONY: demo test test-all conformance versions older check analyse sanitize refcounts dist bench clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

demo: $(READY)
	@$(BIN)/python -m benchmarks.demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest --ignore=tests/conformance $(ARGS)

test-all:
	@found= elsewhere=; for version in $(VERSIONS); do \
		if python=$$(tools/find-python $$version); then \
			echo "--- Python $$version"; found=yes; \
			$(MAKE) test PYTHON="$$python" VENV=.venv-$$version WITH="test apps bench" || exit 1; \
		else \
			elsewhere="$$elsewhere $$version"; \
		fi; \
	done; \
	test -z "$$elsewhere" || WITH="test apps bench" ARGS='$(ARGS)' REQUIRE=$${found:+no} tools/newer-pythons $$elsewhere

# Each property in 10 000 orders, a storm of 100 000 operations, each busy loop 1 000 times.
.PHONY: explore
explore: $(READY)
	@ORDERS=10000 STORM_OPERATIONS=100000 DEADLINE_ROUNDS=1000 $(BIN)/python -m pytest --timeout 1200 \
		tests/property tests/stress tests/trio/core/test_deadlines.py $(ARGS)
	@$(BIN)/python -m tests.model

.PHONY: stress
stress: $(READY)
	@$(BIN)/python -m tests.stress $(ARGS)

# ARGS="'COMMAND'" runs another command in the guest.
.PHONY: newer-kernel
newer-kernel:
	@tools/newer-kernel $(ARGS)

conformance: $(READY)
	@$(BIN)/python -m tests.conformance $(ARGS)

# Ticks, waits and calls in Python, which are the reference for those in C.
.PHONY: interpreted
interpreted: $(READY)
	@URING_TRIO_COMPILED=0 $(BIN)/python -m pytest -q tests/trio tests/property $(ARGS)
	@URING_TRIO_COMPILED=0 $(BIN)/python -m tests.conformance --brief --suite trio --suite anyio

versions:
	@for pair in $(OLDER); do \
		trio=$${pair%/*} anyio=$${pair#*/}; \
		echo "--- Trio $$trio, AnyIO $$anyio"; \
		$(MAKE) older VENV=.venv-trio-$$trio WITH="test apps conformance" \
			PINS="trio==$$trio.* anyio==$$anyio.* pytest==9.0.*" || exit 1; \
	done

older: $(READY)
	@$(BIN)/python -m pytest -q tests/trio $(ARGS)
	@$(BIN)/python -m tests.conformance --brief --suite trio --suite anyio

check: $(READY)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/mypy tests/typing
	@$(BIN)/pyright --pythonpath $(BIN)/python tests/typing
	@$(BIN)/python tools/verifytypes.py uring uring_trio
	@$(BIN)/python -m tools.pages build/programs
	@$(BIN)/ruff check --quiet --select F --per-file-ignores 'docs_howto_anyio_*:F401' build/programs/*.py
	@$(BIN)/mypy examples build/programs
	@$(BIN)/pyright --pythonpath $(BIN)/python --project tests/typing/programs.json
	@$(BIN)/python -m tools.strict_c

analyse: $(READY)
	@$(BIN)/python -m tools.strict_c --analyse

# Needs no network. The packages of the builder go into the environment of the tests.
.PHONY: docs
docs: $(VENV)/docs
	@$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "The site is build/docs/index.html"

$(VENV)/docs: docs/requirements.txt $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r docs/requirements.txt
	@touch $@

# In environments of their own: the package is installed there, not linked, so that the shim in src stays as it is.
define environment
	@echo "Setting up $(1)"
	@rm -rf $(1)
	@$(2) -m venv $(1)
	@mkdir $(1)/source
	@cp -r pyproject.toml setup.py README.md LICENSE src $(1)/source
	@cd $(1)/source/src && rm -rf uring/_*.so uring/_ffi* uring_trio/seams/_ticks.*so *.egg-info
	@$(1)/bin/python -W ignore -m $(INSTALL) 'pip>=25.1'
endef
SOURCES := pyproject.toml $(SHIM) $(wildcard src/*/*.py src/*/*/*.py src/*/*/*/*.py)

SANITIZED := .venv-sanitize
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g
sanitize: $(SANITIZED)/ready $(if $(filter --suite% --everything,$(ARGS)),$(SANITIZED)/whole)
	@$(SANITIZED)/bin/python -m tests.sanitize $(ARGS)

$(SANITIZED)/ready: $(SOURCES) tests/sanitize/launcher.c tests/sanitize/interpreter.py
	$(call environment,$(SANITIZED),$(PYTHON))
	@CFLAGS="$(SANITIZERS)" LDFLAGS="$(SANITIZERS)" \
		$(SANITIZED)/bin/python -m $(INSTALL) $(SANITIZED)/source --group test
	@$(SANITIZED)/bin/python -m tests.sanitize.interpreter
	@touch $@

$(SANITIZED)/whole: $(SANITIZED)/ready
	@ASAN_OPTIONS=detect_leaks=0 $(SANITIZED)/bin/python -m $(INSTALL) --group apps --group conformance
	@touch $@

# The extensions, and cffi, are compiled for the debug build: those of other builds do not count.
DEBUG ?= python3-dbg
COUNTED := .venv-refcounts
refcounts: $(if $(shell command -v $(DEBUG)),$(COUNTED)/ready)
ifeq ($(shell command -v $(DEBUG)),)
	@echo "refcounts: left out, because there is no $(DEBUG) (Debian, Ubuntu: apt-get install python3-dbg python3-venv libffi-dev)"
else
	@$(COUNTED)/bin/python -W ignore -m tests.sanitize.references $(ARGS)
endif

$(COUNTED)/ready: $(SOURCES)
	$(call environment,$(COUNTED),$(DEBUG))
	@$(COUNTED)/bin/python -W ignore -m $(INSTALL) --no-binary cffi $(COUNTED)/source
	@touch $@

DIST := .venv-dist
dist: $(DIST)/ready
	@$(DIST)/bin/python tools/dist.py $(ARGS)

$(DIST)/ready: pyproject.toml
	@echo "Setting up $(DIST)"
	@rm -rf $(DIST)
	@$(PYTHON) -m venv $(DIST)
	@$(DIST)/bin/python -m $(INSTALL) 'pip>=25.1'
	@$(DIST)/bin/python -m $(INSTALL) --group dist
	@touch $@

bench: $(READY)
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: count
count: $(READY)
	@$(BIN)/python -m benchmarks.counts $(ARGS)

clean:
	@rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache src/*.egg-info
	@rm -f src/uring/_ffi.c src/uring/_version.py src/uring/_*.so src/uring_trio/seams/_*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The extensions are removed first: setuptools would take one that is newer than the C text for up to date, though
# pyproject.toml or the headers may say otherwise. Where only the C text has changed the environment stays.
WHOLE = $(filter pyproject.toml tools/preflight.py,$?)
$(VENV)/ready-%: pyproject.toml $(SHIM) tools/preflight.py
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or later (Debian and\
	 Ubuntu: apt-get install python3 python3-dev python3-venv), or name another interpreter with PYTHON=."; exit 1; }
	@$(PYTHON) tools/preflight.py
	@rm -rf $(if $(WHOLE),$(VENV)) src/uring/_ffi.c src/uring/_*.so src/uring_trio/seams/_*.so
	@$(if $(WHOLE),echo "Setting up $(VENV) with Python $* (once; about half a minute)")
	@$(if $(WHOLE),$(PYTHON) -m venv $(VENV))
	@$(if $(WHOLE),$(BIN)/python -m $(INSTALL) 'pip>=25.1')
	@$(BIN)/python -m $(INSTALL) -e . $(if $(WHOLE),$(addprefix --group ,$(WITH)) $(PINS),--no-deps)
	@touch $@
