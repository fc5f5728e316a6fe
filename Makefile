# Needs Python 3.11 or newer, make and, for the installation, a package index. Everything installed goes to .venv.
#   PYTHON=/path/to/python   the interpreter that .venv is made with
#   DATA=DIR                 `make demo` on real frames: a folder in the layout that ARCADE is published in
#   TESTS=tests/metrics      `make test` on a part of the tests
#   STUDIES=DIR              `make label`: a folder of angiograms; BUNDLE=ZIP_OR_DIR, PORT=8000

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test docs lint format bench fuzz label test-label clean FORCE

PYTHON ?=
DATA ?=
TESTS ?=
VENV_PYTHON := .venv/bin/python
READY := .venv/.ready
PIP_INSTALL := $(VENV_PYTHON) -m pip install -qq --disable-pip-version-check --constraint constraints.txt

export MPLBACKEND := Agg
export DO_NOT_TRACK := 1

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
	    printf '  make %-10s %s\n' "$$name" "$$text"; done

# The environment ------------------------------------------------------------------------------------------------------
# .venv/.installing marks an installation under way; where it is still there, the last one was interrupted and .venv is
# made anew. torch goes in first and alone, so that nothing else chooses its build.

$(READY): setup.cfg constraints.txt
	@python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3.11 python3); do \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        python="$$candidate"; break; \
	    fi; \
	done; \
	if [ -z "$$python" ]; then \
	    echo 'error: Python 3.11 or newer is needed, $(if $(PYTHON),and $(PYTHON) is not,but neither python3.11 nor python3 is).' \
	        'Name one: make PYTHON=/path/to/python3.11' >&2; \
	    exit 1; \
	fi; \
	if [ -e .venv/.installing ] || ! $(VENV_PYTHON) -m pip --version >/dev/null 2>&1; then \
	    echo "Making .venv with $$("$$python" --version)"; \
	    "$$python" -m venv --clear .venv || exit 1; \
	fi; \
	touch .venv/.installing
	@echo 'Installing the tested versions into .venv (minutes the first time)'
	@$(PIP_INSTALL) "$$(grep '^torch==' constraints.txt)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@rm .venv/.installing && touch $@

# The demo -------------------------------------------------------------------------------------------------------------
# A step that is finished leaves a mark and is not done again: an interrupted demo goes on, a finished one only says
# where its pictures are. Another DATA, or `make clean`, starts afresh.

DEMO := runs/demo
PRETRAINING := bundles/coronary_xa_pretraining
SEGMENTATION := bundles/coronary_xa_segmentation
PRETRAINING_EPOCHS ?= 4
PAINTING_EPOCHS ?= 12
FINETUNING_EPOCHS ?= 30
RUN := $(VENV_PYTHON) -m cmunet_monai.quiet monai.bundle run
CHECK := $(VENV_PYTHON) -m cmunet_monai check
DEMO_DATA = --dataset_dir $(DEMO)/data --datalist $(DEMO)/splits/final.json
segmentation = --bundle_root $(SEGMENTATION) --config_file $(SEGMENTATION)/configs/$(1).json

PRETRAIN = --bundle_root $(PRETRAINING) \
	--config_file "['$(PRETRAINING)/configs/train.json','$(PRETRAINING)/configs/compact.json']" $(DEMO_DATA) \
	--output_dir $(DEMO)/pretraining --max_epochs $(PRETRAINING_EPOCHS)
PAINT = --bundle_root $(PRETRAINING) --config_file "['$(PRETRAINING)/configs/train.json',\
	'$(PRETRAINING)/configs/compact.json','$(PRETRAINING)/configs/methods/painted_arteries.json']" $(DEMO_DATA) \
	--bank_dir $(DEMO)/trees --output_dir $(DEMO)/painted --max_epochs $(PAINTING_EPOCHS)
EVALUATE_START = $(call segmentation,evaluate) $(DEMO_DATA) \
	--weights $(DEMO)/painted/unet.safetensors --output_dir $(DEMO)/evaluation_without_labels
FINETUNE = $(call segmentation,train) $(DEMO_DATA) \
	--pretrained_weights $(DEMO)/painted/unet.safetensors \
	--output_dir $(DEMO)/segmentation --max_epochs $(FINETUNING_EPOCHS)
EVALUATE = $(call segmentation,evaluate) $(DEMO_DATA) \
	--weights $(DEMO)/segmentation/model.safetensors --output_dir $(DEMO)/evaluation
INFER = $(call segmentation,inference) --dataset_dir $(DEMO)/data/images \
	--weights $(DEMO)/segmentation/model.safetensors --output_dir $(DEMO)/inference

# glibc keeps the memory that torch gives back, instead of returning it to the system at every step
demo: export GLIBC_TUNABLES := glibc.malloc.mmap_threshold=8589934592:glibc.malloc.trim_threshold=8589934592
demo: $(DEMO)/inference.done  ## Pre-train, fine-tune, evaluate and infer on synthetic angiograms (or DATA=DIR)
	@echo
	@echo 'Pictures of this demo:'
	@find $(DEMO) -name '*.png' -not -path '$(DEMO)/data/*' | sed 's|/[^/]*$$||' | sort | uniq -c | \
	    while read -r count folder; do printf '  %4d in %s\n' "$$count" "$$folder"; done
	@echo 'Figures: $(DEMO)/evaluation_without_labels (painted arteries alone), $(DEMO)/evaluation (12 labels). Finished steps are kept; `make clean` starts afresh.'

$(DEMO)/source: FORCE
	@if [ "$$(cat $@ 2>/dev/null)" != '$(or $(DATA),synthetic)' ]; then \
	    rm -rf $(DEMO) && mkdir -p $(DEMO) && printf '%s\n' '$(or $(DATA),synthetic)' > $@; \
	fi

$(DEMO)/data.done: $(DEMO)/source | $(READY)
ifeq ($(DATA),)
	$(VENV_PYTHON) -m data_prep synthesize --frames 64 --size 256 --seed 0 --output $(DEMO)/data
else
	$(VENV_PYTHON) -m data_prep arcade --source "$(DATA)" --output $(DEMO)/data
endif
	@touch $@

$(DEMO)/splits.done: $(DEMO)/data.done
	$(VENV_PYTHON) -m data_prep split --datalist $(DEMO)/data/datalist.json --finetune-images 12 --folds 3 --seed 0 \
	    --output $(DEMO)/splits
	@touch $@

$(DEMO)/pretraining.done: $(DEMO)/splits.done
	$(CHECK) $(PRETRAIN)
	$(RUN) $(PRETRAIN)
	@touch $@

$(DEMO)/painted.done: $(DEMO)/pretraining.done
	$(VENV_PYTHON) -m data_prep trees --trees 100 --size 256 --seed 1 --output $(DEMO)/trees
	$(CHECK) $(PAINT)
	$(RUN) $(PAINT)
	$(RUN) $(EVALUATE_START)
	@touch $@

$(DEMO)/segmentation.done: $(DEMO)/painted.done
	$(CHECK) $(FINETUNE)
	$(RUN) $(FINETUNE)
	@touch $@

$(DEMO)/evaluation.done: $(DEMO)/segmentation.done
	$(RUN) $(EVALUATE)
	@touch $@

$(DEMO)/inference.done: $(DEMO)/evaluation.done
	$(RUN) $(INFER)
	@touch $@

# The checks -----------------------------------------------------------------------------------------------------------

test: $(READY)  ## Run the tests (or TESTS=tests/metrics), a file at a time on every core
	$(VENV_PYTHON) -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0 $(or $(TESTS),tests)

docs: $(READY)  ## Build the documentation: docs/_build/html/index.html
	$(VENV_PYTHON) -m sphinx --fail-on-warning --keep-going docs docs/_build/html

lint: $(READY)  ## Check style, types and storeys: ruff, mypy, import-linter
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo --no-cache

format: $(READY)  ## Put the code into the form that lint wants
	$(VENV_PYTHON) -m ruff check --fix .
	$(VENV_PYTHON) -m ruff format .

bench: $(READY)  ## Print speed and memory, side by side with reference implementations
	@set -e; for script in tests/benchmarks/bench_*.py; do \
	    echo; echo "== $$script"; $(VENV_PYTHON) "$$script"; done

fuzz: $(READY)  ## Ingest 5,000 damaged DICOM files, read 2,000 damaged frames and labels
	$(VENV_PYTHON) tests/fuzz/fuzz_dicom.py
	$(VENV_PYTHON) tests/fuzz/fuzz_frames.py

# The label server -----------------------------------------------------------------------------------------------------
# An environment of its own, .venv-label, since MONAI Label needs numpy 1 and pydicom 2. Nothing chooses its dependencies
# (--no-deps): they would bring a CUDA torch. torch must be the CPU's build, which PyPI has for no Linux:
# PIP_EXTRA_INDEX_URL names torch's own index there (CONTRIBUTING.md).

STUDIES ?=
BUNDLE ?=
PORT ?= 8000
LABEL_PYTHON := .venv-label/bin/python
LABEL_READY := .venv-label/.ready
LABEL_INSTALL := $(LABEL_PYTHON) -m pip install -qq --disable-pip-version-check --no-deps

$(LABEL_READY): constraints-monailabel.txt setup.cfg
	@if [ -e .venv-label/.installing ] || ! $(LABEL_PYTHON) -m pip --version >/dev/null 2>&1; then \
	    $(or $(PYTHON),python3.11) -m venv --clear .venv-label; \
	fi
	@touch .venv-label/.installing
	@echo 'Installing the label server into .venv-label (3 GB, minutes the first time)'
	@$(LABEL_INSTALL) --requirement constraints-monailabel.txt
	@$(LABEL_INSTALL) --editable .
	@$(LABEL_PYTHON) -c 'import torch, monailabel; assert torch.version.cuda is None' || { \
	    echo 'error: the package index gave a torch with CUDA. For the CPU build, name torch'"'"'s own index:' \
	        'PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make label' >&2; exit 1; }
	@rm .venv-label/.installing && touch $@

label: $(LABEL_READY)  ## Serve angiograms to annotators (STUDIES=DIR, BUNDLE=ZIP_OR_DIR, PORT=8000)
	$(LABEL_PYTHON) -m cmunet_monai label $(if $(STUDIES),--studies "$(STUDIES)") $(if $(BUNDLE),--bundle "$(BUNDLE)") --port $(PORT)

test-label: $(LABEL_READY)  ## Run the tests of the label server, against a real one
	$(LABEL_PYTHON) -m pytest tests/label

clean:  ## Remove the demo, caches and build outputs (not .venv, not other runs)
	rm -rf $(DEMO) docs/_build build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find cmunet_monai data_prep bundles tests -name __pycache__ -type d -prune -exec rm -rf {} +
