# make demo   install into .venv and go from made-up videos to avatars and a report
# make test   install and run the tests
# make lint   what CI checks besides the tests
PYTHON ?= python3.11
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: install demo test lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Headwater needs Python 3.11 ($(PYTHON) is not on the PATH); name yours: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV): two to four minutes, most of it download"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	dvc repro
	@echo "Open $(CURDIR)/report/report.html"

test: install
	pytest

lint: install
	ruff check .
	ruff format --check .
	mypy
	lint-imports

# what the stages made; your videos in data/raw, models that you named yourself and the runs in MLflow stay
clean:
	rm -rf data/catalog data/frames data/tracks data/tracks_nphm data/evaluation data/evaluation_oneshot data/evaluation_npga \
	  $(addprefix models/,headgas oneshot nphm nphm_forward npga) metrics plots/* dvc_plots report .headwater
