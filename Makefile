# Every target sets itself up: it makes a virtual environment in .venv, with the package and its tools inside, and makes
# it anew when pyproject.toml, the C shim or the interpreter changes. Needed: python3 with its headers, a C compiler.
#
#   make demo          a Trio server on the ring next to stock Trio, with real clients
#   make test          the tests, with $(PYTHON); make test ARGS="-k name"
#   make test-all      the same with every supported Python found on this machine
#   make conformance   the test-suites of Trio, AnyIO and others on stock Trio and on the ring;
#                      make conformance ARGS="--suite trio"
#   make check         linter, formatter, type checkers
#   make bench         the benchmarks; make bench ARGS="--help"
#   make clean         removes everything the other targets made

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?= anyio,test,apps,conformance,check,bench
ARGS ?=

VERSIONS := 3.11 3.12 3.13
BIN := $(VENV)/bin
SHIM := setup.py $(wildcard src/uring/_shim/*)
# The interpreter is part of the stamp's name, so that another one makes another environment.
READY := $(VENV)/ready-$(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)

.PHONY: demo test test-all conformance check bench clean
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

demo: $(READY)
	@$(BIN)/python -m benchmarks.demo $(ARGS)

test: $(READY)
	@$(BIN)/python -m pytest --ignore=tests/conformance $(ARGS)

test-all:
	@found=; for version in $(VERSIONS); do \
		if python=$$(tools/find-python $$version); then \
			echo "--- Python $$version"; found=yes; \
			$(MAKE) test PYTHON="$$python" VENV=.venv-$$version EXTRAS=anyio,test,apps || exit 1; \
		else \
			echo "--- Python $$version: not on this machine"; \
		fi; \
	done; \
	test -n "$$found"

conformance: $(READY)
	@$(BIN)/python -m tests.conformance $(ARGS)

check: $(READY)
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy
	@$(BIN)/python tools/verifytypes.py uring uring_trio

bench: $(READY)
	@$(BIN)/python -m benchmarks $(ARGS)

clean:
	@rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache src/*.egg-info
	@rm -f src/uring/_ffi.c src/uring/_ffi*.so
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The extension is removed first: setuptools would take one that is newer than the C text for up to date, though
# pyproject.toml or the headers may say otherwise.
$(VENV)/ready-%: pyproject.toml $(SHIM) tools/preflight.py
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or later (Debian and\
	 Ubuntu: apt-get install python3 python3-dev python3-venv), or name another interpreter with PYTHON=."; exit 1; }
	@$(PYTHON) tools/preflight.py
	@echo "Setting up $(VENV) with Python $* (once, about half a minute)"
	@rm -rf $(VENV) src/uring/_ffi.c src/uring/_ffi*.so
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@
