# Everything builds its own environment in .venv; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,dev]'
	touch $@

.PHONY: demo test bench
demo: .venv/ready ## the main job on bundled real data
	$(BIN)/specmoe traces list
	$(BIN)/specmoe traces info switch-mini-128/decode/test
	$(BIN)/specmoe collect --model switch-mini-16 --text README.md --out out/readme.parquet
	$(BIN)/specmoe traces info out/readme.parquet

test: .venv/ready ## lint, types, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

bench: .venv/ready ## figures for docs/performance.md
	$(BIN)/python -m benchmarks.traces

figures: .venv/ready ## figures and tables of docs/routing.md
	$(BIN)/python docs/build_routing.py
.PHONY: figures
