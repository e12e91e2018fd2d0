# make demo and make test each set up their own environment in .venv, then do their job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAGES := common extract train analyze pipelines

.PHONY: demo test slow lowest check lint types docs editor dist format clean tree

demo: $(VENV)/demo.installed
	$(BIN)/sparc-pipeline demo demo

# A thread for each of the two processes: more would wait for each other on two cores. Tests of
# threads ask for theirs.
test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What `make test` leaves out for its length.
slow: $(VENV)/dev.installed tree
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

# The suite with the lowest releases that pyproject.toml allows, in an environment of its own.
lowest: tree
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install packaging
	$(VENV)-lowest/bin/python tests/support/lowest.py > $(VENV)-lowest/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --constraint $(VENV)-lowest/lowest.txt -e '.[dev]'
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n 2 --dist loadfile

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

# That an editor finds what is imported from sparc: Pyright is what Pylance is made of. Of its opinions
# on types, which are not mypy's, nothing is asked.
editor: $(VENV)/dev.installed tree
	$(BIN)/python -m pip install 'pyright[nodejs]>=1.1.400'
	$(BIN)/python -m pyright pipelines tests/test_sparc.py > .mypy-tree/pyright.txt || true
	grep 'errors, ' .mypy-tree/pyright.txt
	! grep 'Import "sparc.* could not be resolved' .mypy-tree/pyright.txt

# Source distribution, and the wheel that is built from it; both are checked.
dist: $(BIN)/python
	rm -rf dist build *.egg-info
	$(BIN)/python -m pip install 'build>=1.2' 'twine>=6'
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

# Neither mypy, Pyright nor mkdocstrings follows the mapping of folders to sparc.*: they are shown a
# tree of links instead.
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
	rm -rf $(VENV) $(VENV)-lowest .mypy-tree build dist site *.egg-info
