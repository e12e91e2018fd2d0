# make demo and make test each set up their own environment in .venv, then do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAGES := common extract train analyze pipelines

.PHONY: demo test slow check lint types format clean

demo: $(VENV)/demo.installed
	$(BIN)/sparc-pipeline demo demo

# A thread for each of the two processes: more would wait for each other on two cores. Tests of
# threads ask for theirs.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What `make test` leaves out for its length.
slow: $(VENV)/dev.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

check: lint types

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy does not follow the mapping of folders to sparc.*: it is shown a tree of links instead.
types: $(VENV)/dev.installed
	mkdir -p .mypy-tree/sparc
	for stage in $(STAGES); do ln -sfn ../../$$stage .mypy-tree/sparc/$$stage; done
	ln -sfn ../../sparc/__init__.py .mypy-tree/sparc/__init__.py
	cd .mypy-tree && MYPYPATH=. ../$(BIN)/mypy --config-file ../pyproject.toml \
	    --namespace-packages --explicit-package-bases -p sparc

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/dev.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@

$(VENV)/demo.installed: pyproject.toml pipelines/demo/requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install -e '.[demo]'
	$(BIN)/python -m pip install --no-deps --require-hashes -r pipelines/demo/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) .mypy-tree build *.egg-info
