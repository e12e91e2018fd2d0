# make demo and make test each set up their own environment in .venv, then do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAGES := common extract train analyze pipelines

.PHONY: demo test slow check lint types docs format clean tree

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

types: $(VENV)/dev.installed tree
	cd .mypy-tree && MYPYPATH=. ../$(BIN)/mypy --config-file ../pyproject.toml \
	    --namespace-packages --explicit-package-bases -p sparc
	cd .mypy-tree && MYPYPATH=. ../$(BIN)/mypy --config-file ../pyproject.toml ../docs/hooks

# Pages to read, site/index.html, which opens by double click. A warning is an error.
docs: $(VENV)/docs.installed tree
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Neither mypy nor mkdocstrings follows the mapping of folders to sparc.*: they are shown a tree of
# links instead.
tree:
	mkdir -p .mypy-tree/sparc
	for stage in $(STAGES); do ln -sfn ../../$$stage .mypy-tree/sparc/$$stage; done
	ln -sfn ../../sparc/__init__.py .mypy-tree/sparc/__init__.py

format: $(VENV)/dev.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/dev.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e '.[dev]'
	touch $@

$(VENV)/docs.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -e '.[docs]'
	touch $@

$(VENV)/demo.installed: pyproject.toml pipelines/demo/requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install -e '.[demo]'
	$(BIN)/python -m pip install --no-deps --require-hashes -r pipelines/demo/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) .mypy-tree build site *.egg-info
