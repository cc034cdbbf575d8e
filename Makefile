# make install   a virtual environment .venv with everything in it (CPU torch unless TORCH_INDEX says otherwise)
# make demo      a small rendered scene, reconstructed, with its accuracy
# make test      ruff, pyright, import-linter, pytest
#
# GPU: make install TORCH_INDEX=https://download.pytorch.org/whl/cu130 (any index of PyTorch's)

VENV := .venv
BIN := $(VENV)/bin
DEMO ?= reconstructions/demo
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
WORKERS ?= 2

# The first Python of at least 3.11; PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Two pytest workers, two cores: a thread each, and none that spins while it waits.
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.PHONY: install demo test lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml hatch_build.py constraints.txt
	@test -n "$(PYTHON)" || { echo "make: no Python >= 3.11 found; give one: make install PYTHON=/path/to/python"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "venv without pip: using the system's pip"; \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }
	@echo "installing into $(VENV): some minutes the first time"
	@# PyTorch's own index where it can be reached (small CPU wheels); otherwise pip's usual places serve.
	@index=$$($(BIN)/python -c "import urllib.request as r; r.urlopen('$(TORCH_INDEX)/torch/', timeout=10)" 2>/dev/null \
		&& echo "--extra-index-url $(TORCH_INDEX)"); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$index -c constraints.txt -e ".[train,dev]"
	@touch $@

demo: install
	$(BIN)/python -m datasets.scenes.rendered $(DEMO)/scene
	$(BIN)/python run_reconstruction.py --images $(DEMO)/scene/images --reference $(DEMO)/scene/sparse \
		--output $(DEMO)/output --overwrite

lint: install
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

test: lint
	$(THREADS) $(BIN)/pytest -q -n $(WORKERS)

clean:
	rm -rf $(VENV) build dist $(DEMO)
