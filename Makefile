# Two commands do everything: `make book` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/installed
# `make book STRICT=1` turns every warning of the build into an error, as CI does.
STRICT ?=
SPHINX := $(if $(STRICT),-W -n --keep-going,)
# `make book DIFFCIRC_PARTS='Companion systems'` renders parts of the book, named by how they begin.
DIFFCIRC_PARTS ?=
export DIFFCIRC_PARTS
TOC    := $(if $(strip $(DIFFCIRC_PARTS)),--toc _toc_chosen.yml,)
# Hashes of the packages' files, for Linux on x86-64. `make LOCK= …` installs by constraints.txt alone.
LOCK ?= lock
# OpenMP threads that spin while they wait slow two trainings side by side down.
export OMP_WAIT_POLICY ?= PASSIVE
export GOMP_SPINCOUNT ?= 1000
export HF_HUB_DISABLE_TELEMETRY ?= 1
export PYDEVD_DISABLE_FILE_VALIDATION ?= 1

.PHONY: help install lock prepare book whole-book test fuzz lint check-book bench sync clean
help:           ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

install: $(STAMP) ## virtual environment with the pinned packages
$(STAMP): pyproject.toml constraints.txt $(wildcard lock/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo 'diffcirc needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	bash .ci/install $(BIN)/python $(LOCK)
	@touch $@

lock:           ## renew lock/, the hashes of the packages that constraints.txt names
	$(PYTHON) -m venv $(VENV)/lock && $(VENV)/lock/bin/python -m pip install -q --disable-pip-version-check uv==0.13.9
	$(VENV)/lock/bin/python .ci/lock.py $(VENV)/lock/bin/uv

prepare: $(STAMP) ## faces, trained models and measurements of the preset in force (resumes when it was stopped)
	$(BIN)/python -m diffcirc.cli prepare

HOW := $(TOC) $(SPHINX)
book: $(STAMP)  ## train, execute and render the book to _build/html/index.html
	@$(BIN)/python -m diffcirc.cli finished -- '$(HOW)' || { [ $$? -eq 3 ] && $(MAKE) --no-print-directory whole-book; }
	@echo; echo "The book: $(CURDIR)/_build/html/index.html"

whole-book: prepare
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m diffcirc.cli execute
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/jupyter-book build . $(TOC) $(SPHINX)
	@$(BIN)/python -m diffcirc.cli finished --keep -- '$(HOW)'

test: sync lint ## in-sync check, lint, notebook cells, pytest
	IN_TEST=1 DIFFCIRC_PRESET=smoke OMP_NUM_THREADS=1 PATH="$(abspath $(BIN)):$$PATH" timeout 2400 $(BIN)/nbdev_test --n_workers 2
	IN_TEST=1 DIFFCIRC_PRESET=smoke PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest tests -n 2 --dist loadfile

fuzz: $(STAMP)  ## the whole campaign of faults; its table, with how many cases, goes to benchmarks/faults.csv
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.fuzz

lint: $(STAMP)  ## names that do not exist or are not used, several statements on a line
	$(BIN)/ruff check -q .

check-book: $(STAMP) ## check the pages that `make book` rendered
	$(BIN)/python -m pytest tests/built_book.py tests/built_book_browser.py -n 2 --dist loadgroup

# torchvision comes with a peer, is not needed, and breaks a CPU build of torch
bench: benchmarks/.venv/installed ## time this project beside its peers: benchmarks/results.csv and scaling.csv (some ten minutes of a quiet machine)
	benchmarks/.venv/bin/python benchmarks/bench.py $(BENCH)
benchmarks/.venv/installed: benchmarks/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv benchmarks/.venv
	benchmarks/.venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt -e .
	benchmarks/.venv/bin/python -m pip uninstall -q -y torchvision
	@touch $@

sync: $(STAMP)  ## check that diffcirc/ is what the notebooks export and that the notebooks hold no outputs
	@find diffcirc nbs -name '*.py' -o -name '*.ipynb' | grep -v checkpoints | sort | xargs sha256sum > $(VENV)/sums
	$(BIN)/nbdev_export && $(BIN)/nbdev_clean
	@sha256sum --quiet -c $(VENV)/sums || { echo 'diffcirc/ or nbs/ was out of sync and has been brought in sync: look at `git diff` and commit.'; exit 1; }

clean:          ## remove what was built (not the trained models)
	rm -rf _build
