# One word each: the same here and in CI. The environment is .venv, made from pyproject.toml and constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
# PyPI's CPU wheel of torch where the machine's index has one; see constraints.txt
PEERS := fastmri==0.3.0 deepinv==0.5.0 mrpro==0.261015 finufft==2.5.1 pytorch-finufft==0.1.0

# of the suite; on two cores a third one fills the time in which another waits for clusters and browsers
PROCESSES := 3

.PHONY: venv demo test studies check docs examples bench peers versions clean

venv: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	@echo "Installing Fathom and what it needs into .venv: about a minute, more where the network is slow"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/pip install --quiet --editable ".[formats]" --group dev --constraint constraints.txt
	touch $@

demo: venv
	$(BIN)/fathom build demo --out demo/demo.zarr
	$(BIN)/fathom verify demo/demo.zarr --replay 8
	$(BIN)/fathom inspect demo/demo.zarr --out demo/report
	$(BIN)/fathom iterate demo/demo.zarr
	$(BIN)/fathom study demo --scale laptop --workers 2 --device cpu --out demo/study
	@echo "The corpus is demo/demo.zarr; look at demo/report/report.html and demo/study/report.html"

test: venv
	$(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile

studies: venv
	$(BIN)/python -m pytest -m slow -n $(PROCESSES)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/docs: .venv/installed
	@echo "Installing Sphinx into .venv"
	$(BIN)/pip install --quiet --group docs --constraint constraints.txt
	touch $@

# a link that leads nowhere, and anything else that Sphinx warns of, is an error
docs: .venv/docs
	$(BIN)/python -m sphinx --builder html --fresh-env --fail-on-warning --keep-going --quiet docs build/docs
	@echo "Open build/docs/index.html"

# the blocks of README and docs as printed, in an empty folder with stand-ins for data; the training takes most of an hour
examples: venv
	rm -rf demo/examples
	$(BIN)/python tests/examples.py demo/examples

# fastmri, deepinv and mrpro without their dependencies: they ask for a torchvision that would replace torch.
.venv/peers: .venv/installed
	$(BIN)/pip install --quiet --group peers --constraint constraints.txt
	$(BIN)/pip install --quiet --no-deps $(PEERS)
	touch $@

peers: .venv/peers
	$(BIN)/python -m pytest -m peers

# wheel and sdist in clean environments of every Python on the path, with the lowest and the newest dependencies
versions: venv
	$(BIN)/python benchmarks/versions.py .venv/versions $(foreach v,3.11 3.12 3.13,$(shell command -v python$(v)))

bench: .venv/peers
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf .venv demo build/docs .pytest_cache .mypy_cache .ruff_cache
