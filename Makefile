# Everything lives in .venv; a machine needs python3 (>= 3.11, with venv) and make.
PYTHON ?= python3
BIN := .venv/bin
BILL := examples/bills/ab-1234.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check format docs lock bench clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/installed ## analyse a bill on an embedded Postgres; offline unless a provider key is set
	@$(BIN)/llm-common analyze $(BILL) --bill-id AB-1234 --jurisdiction California

# Three processes on two cores: half of their time is waiting.
test: .venv/installed ## the whole test suite, or PART=ledger (llm, search, pipeline, ...) of it
	$(BIN)/pytest -n 3 --dist loadgroup $(wildcard $(if $(PART),tests/*/$(PART) tests/*/test_$(PART)*.py)) $(ARGS)

test-fast: .venv/installed ## what needs no program, half a minute
	HYPOTHESIS_PROFILE=fast $(BIN)/pytest -q -n 2 -m "not slow" tests/unit tests/contract $(ARGS)

check: .venv/installed ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: .venv/installed ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed ## write the generated pages of docs/ again
	$(BIN)/python -m tests.docs

bench: .venv/installed ## speed as ratios against peers
	$(BIN)/python -m benchmarks

lock: .venv/installed ## resolve requirements.lock again
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --group dev \
	  --generate-hashes --no-emit-index-url --no-header --quiet --upgrade -o requirements.lock

clean: ## remove what make made; your data folder stays
	rm -rf .venv build dist

# pip installs uv, by the hash that the lock names; uv installs the rest, ten times as fast. Where uv cannot reach what
# pip reaches (it knows neither pip's configuration nor its certificates), pip installs the rest too.
.venv/installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "llm-common needs Python 3.11 or newer; call: make PYTHON=python3.12")'
	@echo "installing into .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@awk '/^uv==/ { on = 1 } on { print } on && !/\\$$/ { exit }' requirements.lock > .venv/uv.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock 2> .venv/uv.log \
	  || { echo "uv could not install (see .venv/uv.log); trying pip"; \
	       $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
