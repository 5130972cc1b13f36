# Everything builds its own environment in .venv; nothing else is touched.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types tests fuzz bench figures docs reference

.venv/base: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/ready: .venv/base
	$(PIP) -e '.[torch,dev,docs]'
	touch $@

demo: .venv/base ## the main job on the bundled real trace; needs no torch
	$(BIN)/specmoe demo --out out/demo

test: .venv/ready ## lint, types, tests; about 6 minutes on two quiet cores
	$(MAKE) -j3 lint types tests

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready
	$(BIN)/mypy

tests: .venv/ready ## one process per core, one thread each; no process of a test compiles all anew
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal --durations=10

reference: .venv/ready ## pages made from the code: docs/api.md, cli.md, policies.md
	$(BIN)/python docs/build_reference.py

fuzz: .venv/ready ## mutated inputs for FUZZ_SECONDS (300), then random examples of every property
	PYTHONPATH=.:tests:tests/collect $(BIN)/python tests/fuzz/fuzzer.py
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest -m "not gpu" -k "$$(grep -rlE '@given|in_turn' tests | xargs -n1 basename | sed 's/\.py//' | paste -sd' ' | sed 's/ / or /g')"

docs: .venv/ready ## pages in out/docs/index.html; a warning is an error
	$(BIN)/python -m sphinx -E -a -n -W --keep-going -q -d out/doctrees docs out/docs

bench: .venv/ready ## figures for docs/performance.md
	$(BIN)/python -m benchmarks.traces
	$(BIN)/python -m benchmarks.decide
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.long
	$(BIN)/python -m benchmarks.retimer
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.predictors

figures: .venv/ready ## figures of README and docs, tables of docs/routing.md, speculation.md, validation.md, styles.md, cpu.md, public.md
	$(BIN)/python docs/build_routing.py
	$(BIN)/python docs/build_speculation.py
	$(BIN)/python docs/build_validation.py
	$(BIN)/python docs/build_styles.py
	$(BIN)/python docs/build_drafts.py
	$(BIN)/python docs/build_decoder.py
	$(BIN)/python docs/build_cpu.py
	$(BIN)/python docs/build_generate.py
	$(BIN)/python docs/build_public.py
	$(BIN)/specmoe demo --out out/demo
	cp out/demo/latency.png docs/img/latency.png
