# Each target installs what it needs: Python packages into .venv, at the versions of constraints.txt.
.DELETE_ON_ERROR:
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=

.PHONY: report digits stream-demo test test-all test-clients test-cloud test-versions lint docs architecture bench clean

# The report of yesterday (UTC), or of another day: make report ARGS='--date 2026-11-19'
report: .venv/workflows
	@$(BIN)/python -P millrace/tasks/surroundings.py
	@$(BIN)/luigi --module workflows Report $(ARGS)

# The digits that come with scikit-learn: loaded, scored with the project's own model, and the page of that.
digits: .venv/digits
	@$(BIN)/python -P millrace/tasks/surroundings.py
	@$(BIN)/luigi --module workflows LoadDigits $(ARGS)
	@$(BIN)/luigi --module workflows DigitReport

# 500 images through Google's Pub/Sub emulator and the stream of digits.
stream-demo: .venv/digits
	@$(BIN)/python -m localcloud.pubsub --topic images --topic predictions --topic rejects -- bin/stream-demo

# Three files of tests at a time, because they wait for processes as much as they compute; in their order, because those of
# a few long tests would else come last, and be waited for.
test: .venv/test
	@bin/install-chromium
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# The long matrices whole.
test-all: .venv/test
	@bin/install-chromium
	MILLRACE_TEST_ALL=1 $(BIN)/pytest $(ARGS)

# Those of the cloud: killed after every effect (runs, firings, graphs, flows, gates), every answer lost, calls that fail at
# random, a hundred jobs awaited and a thousand followed; every launch of the templates, and gcloud's commands for Dataflow.
test-cloud: .venv/test
	MILLRACE_TEST_ALL=1 $(BIN)/pytest tests/cloud/test_cloud_crashes.py tests/cloud/test_cloud_memory.py \
	    tests/cloud/test_template_jobs.py tests/cloud/test_window_template.py tests/localcloud/test_gcloud_dataflow.py \
	    tests/cloud/test_no_wait.py tests/cloud/test_job_graphs.py tests/cloud/test_cloud_flows.py \
	    tests/cloud/test_cloud_approvals.py tests/cloud/test_on_event.py $(ARGS)

# Other people's programs and clients against the local cloud; writes docs/localcloud-clients.md. gcloud has to be there.
test-clients: .venv/test .venv-clients/made
	MILLRACE_TEST_CLIENTS=1 $(BIN)/pytest tests/clients $(ARGS)

# Every Python, and the lowest versions, that pyproject.toml promises.
test-versions: .venv/test
	tests/versions.sh

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo

# The guides and the library's reference as one site, its links checked: build/site/index.html
docs: .venv/docs
	$(BIN)/python docs/lay_out.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The picture of docs/architecture.md; Graphviz draws it.
architecture: .venv/test
	$(BIN)/python docs/draw.py

bench: .venv/test
	$(BIN)/python -m benchmarks.run $(ARGS)

clean:
	rm -rf .venv .venv-clients build *.egg-info .mypy_cache .ruff_cache .pytest_cache

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "error: Millrace needs Python 3.11 to 3.13, and $(PYTHON) is another; say make PYTHON=python3.12")'
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

.venv/workflows: .venv/python pyproject.toml millrace/beam/requirements.txt constraints.txt
	@echo "Installing Millrace into .venv (once, about a minute)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[workflows]'
	@touch $@

.venv/digits: .venv/python pyproject.toml millrace/beam/requirements.txt constraints.txt
	@echo "Installing Millrace, ONNX Runtime and scikit-learn into .venv (once, about a minute)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[workflows,digits-sample]'
	@touch .venv/workflows $@

.venv/localcloud: .venv/python pyproject.toml millrace/beam/requirements.txt constraints.txt
	@echo "Installing Millrace and the local cloud into .venv (once, about a minute)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[workflows,localcloud]'
	@touch .venv/workflows $@

.venv/test: .venv/python pyproject.toml millrace/beam/requirements.txt constraints.txt
	@echo "Installing Millrace and its tests' tools into .venv (once, about a minute)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[workflows,test,lint]'
	@touch .venv/workflows .venv/digits .venv/localcloud $@

.venv-clients/made: tests/clients/requirements.txt
	@echo "Installing Airflow and googleapiclient into .venv-clients (once, some minutes)"
	@$(PYTHON) -m venv .venv-clients
	@.venv-clients/bin/pip install -qq --disable-pip-version-check -r $<
	@touch $@

.venv/docs: .venv/workflows
	@echo "Installing what the site is made with into .venv (once)"
	@$(BIN)/pip install -qq --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@
