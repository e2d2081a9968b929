# `make demo` and `make test` do everything on a fresh Debian or Ubuntu machine with Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tests side by side, each with servers of its own.
JOBS ?= 2


.PHONY: help install demo line wheel test quick lint audit check bench fuzz chaos soak format lock clean

help:
	@echo "make demo            render a small line, train, build, stream, report (about 3 minutes)"
	@echo "make line DATA=DIR   the same on a folder of real pictures, through real Kafka and Redis"
	@echo "                     both take options, for example ARGS='--set train.head.steps=0'"
	@echo "make wheel           dist/*.whl, to install where there is no checkout"
	@echo "make test            all tests, on a real Kafka and a real Redis"
	@echo "make quick           the tests that need no server and no download, train nothing large, and take two minutes"
	@echo "make check           what CI checks: format, lint, types, secrets, known flaws of dependencies, tests"
	@echo "make bench           speed of engine, bank, worker and training, beside this machine's last runs (half an hour)"
	@echo "make fuzz            a million damaged pictures, then coverage-guided fuzzing: ARGS='SECONDS [TARGET ...]'"
	@echo "make chaos           100,000 frames while workers are killed and services fail (about an hour)"
	@echo "make soak            one worker for an hour, its memory, handles, threads and lag plotted"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || [ "$$(id -u)" != 0 ] || { apt-get update -qq; apt-get install -qq -y python3-venv; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/quarterturn demo $(ARGS)

line: install
	@test -n "$(DATA)" || { echo "make line needs a folder: make line DATA=path/to/pictures"; exit 2; }
	$(BIN)/python -m tests.services run -- sh -c '$(BIN)/quarterturn demo --data "$(DATA)" --out out/line --kafka $$KAFKA_BOOTSTRAP_SERVERS --redis $$REDIS_URL $(ARGS)'

wheel: install # from the sdist: nothing of an earlier build gets in
	$(BIN)/uv build --quiet --out-dir dist

test: install # a file's tests stay together, for what they share
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

quick: install
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m "not server and not slow"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy examples/*.py examples/alerts/consume.py

audit: install # the tools run apart from the project's own packages
	$(BIN)/uv tool run --quiet --from 'detect-secrets==1.5.0' detect-secrets-hook $$(git ls-files)
	$(BIN)/uv tool run --quiet 'pip-audit==2.10.0' -r constraints.txt --no-deps --disable-pip -f json 2>/dev/null \
		| $(BIN)/python -m tests.audit

check: lint audit test

bench: install # with nothing else running
	$(BIN)/python -m benchmarks.suite $(ARGS)

fuzz: install # atheris is no part of `dev`: it is large, and has no wheel for every Python that we support
	$(BIN)/python -m pip install --quiet 'atheris>=3'
	$(BIN)/python -m tests.fuzz.pictures
	$(BIN)/python -m tests.fuzz $(ARGS)

chaos: install
	$(BIN)/python -m tests.chaos $(ARGS)

soak: install
	$(BIN)/python -m tests.chaos.soak $(ARGS)

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: install # pins everything for Python 3.10 and newer
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev --no-emit-index-url \
		--no-annotate --no-header pyproject.toml --output-file constraints.txt

clean:
	rm -rf out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
