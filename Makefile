# Every target makes the virtual environment that it needs under .venv/ and installs what it needs there.
# Needed beforehand: Python 3.11 or newer.  make PYTHON=/path/to/python chooses a Python.

.PHONY: help demo demo-cluster test test-python test-gemini2 test-integrations test-hosted test-console test-s3 test-ray torture fuzz lint bench bench-large retrieval docs package clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

export PYTHON ?=
# Real embeddings, where a folder of them lies beside the repository; tests that use them skip without.
ifneq ($(wildcard ../shared/data),)
export MRLSTORE_REAL_DATA ?= $(abspath ../shared/data)
endif
# Another environment that happens to be active must not leak in.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

TESTS ?=
# One more than two cores: many tests wait for other processes.
WORKERS ?= 3
SECONDS ?= 60
# Clients of hosted databases, unmodified, each in an environment of its own.
HOSTED ?= python5 python6 python7 python8 python9 python10 node4 node6 node8 node9 qdrant qdrant9 chroma \
	langchain llamaindex
INTEGRATIONS := langchain haystack llama-index mteb migrate pinecone vectordbbench

help:
	@echo "make demo      semantic search over the documentation that every Python carries, in about two minutes"
	@echo "make demo-cluster  three simulated nodes of Ray, of which one is lost; needs 150 MB of packages"
	@echo "make test      the tests, within ten minutes      make test TESTS=tests/cli"
	@echo "make test-python  a part of the tests under another Python    make test-python PYTHON=/path/to/python3.14"
	@echo "make test-gemini2  the tests of the Gemini adapter under the older google-genai 2.x"
	@echo "make test-integrations  the suites that LangChain and others ship, each in an environment of its own"
	@echo "make test-hosted  apps on the unmodified clients of Pinecone, Qdrant and Chroma against the server"
	@echo "make test-console  the console in headless Chromium, where one is installed"
	@echo "make test-s3    shipping and restoring against servers of S3, Azure and GCS, behind a faulty proxy"
	@echo "make test-ray   shards run by Ray, whose actors are killed and frozen"
	@echo "make torture   the full figures: crashes, damage, faults, fuzzing; for hours"
	@echo "make fuzz      coverage-guided fuzzing of all that parses bytes    make fuzz SECONDS=600"
	@echo "make lint      ruff (rules and format) and mypy, over the library and its tests"
	@echo "make bench     the benchmarks"
	@echo "make bench-large  what growth costs, up to what two thirds of the disk take; for hours, continues where it was stopped"
	@echo "make retrieval  nDCG@10 of every tier on a retrieval task, by MTEB, without network"
	@echo "make docs      the documentation as a site, in site/"
	@echo "make package   wheel and sdist in dist/, checked, and the wheel used in an empty environment"
	@echo "make clean     removes what the targets made"

# The kernels' machine code for this processor, in the checkout: 1 to 2 minutes after an edit of a kernel, and
# nothing where it lies ready or there is no linker.
KERNELS = python -m mrlstore.kernels.build --supported

demo: .venv/demo.stamp
	@.venv/demo/bin/$(KERNELS)
	@.venv/demo/bin/mrlstore demo --keep build/demo

test: .venv/test.stamp
	@.venv/test/bin/$(KERNELS)
	@.venv/test/bin/python -m pytest -n $(WORKERS) $(TESTS)

# Under another Python than that of .venv/test: the library and its command line.
test-python: .venv/python.stamp
	@.venv/python/bin/$(KERNELS)
	@.venv/python/bin/python -m pytest -n $(WORKERS) tests/store tests/storage tests/keywords tests/cli tests/exchange

test-gemini2: .venv/gemini2.stamp
	@.venv/gemini2/bin/python -m pytest -n $(WORKERS) tests/embedders tests/ingest tests/cli/test_embed.py

test-integrations: $(INTEGRATIONS:%=test-integration-%)

test-integration-%: .venv/%.stamp
	@.venv/$*/bin/python -m pytest tests/integrations/$(subst -,_,$*)

test-hosted: .venv/test.stamp $(HOSTED:%=.venv/hosted-%.stamp)
	@.venv/test/bin/$(KERNELS)
	@MRLSTORE_HOSTED="$(HOSTED)" .venv/test/bin/python -m pytest tests/hosted

test-console: .venv/console.stamp
	@.venv/console/bin/$(KERNELS)
	@.venv/console/bin/python -m pytest tests/console

# Azure's emulator comes from npm; without npm its tests are skipped.
test-s3: .venv/s3.stamp .venv/azurite.stamp
	@.venv/s3/bin/$(KERNELS)
	@.venv/s3/bin/python -m pytest tests/s3 tests/object_storage

demo-cluster: .venv/ray.stamp
	@.venv/ray/bin/$(KERNELS)
	@.venv/ray/bin/python -W ignore -m benchmarks.cluster_demo

test-ray: .venv/ray.stamp
	@.venv/ray/bin/$(KERNELS)
	@.venv/ray/bin/python -m pytest tests/ray

torture: .venv/test.stamp
	@MRLSTORE_TORTURE=1 HYPOTHESIS_PROFILE=torture .venv/test/bin/python -m pytest -m "torture or not torture" $(TESTS)
	@$(MAKE) --no-print-directory fuzz

fuzz: .venv/fuzz.stamp
	@.venv/fuzz/bin/python -m tests.fuzz.coverage $(SECONDS)

lint: .venv/lint.stamp
	@.venv/lint/bin/ruff check .
	@.venv/lint/bin/ruff format --check .
	@.venv/lint/bin/mypy

bench: .venv/bench.stamp
	@.venv/bench/bin/$(KERNELS)
	@.venv/bench/bin/python -m pytest benchmarks --benchmark-only

bench-large: .venv/bench.stamp
	@.venv/bench/bin/$(KERNELS)
	@nice -n 19 .venv/bench/bin/python -m benchmarks.large

retrieval: .venv/mteb.stamp
	@.venv/mteb/bin/python -m benchmarks.retrieval

docs: .venv/docs.stamp
	@NO_MKDOCS_2_WARNING=1 .venv/docs/bin/mkdocs build --strict

package: .venv/package.stamp
	@rm -rf dist
	@.venv/package/bin/python -m build --outdir dist .
	@.venv/package/bin/python -m twine check --strict dist/*
	@tools/smoke-test.sh dist/*.whl

.venv/demo.stamp: WANTS = --editable ".[demo]"
.venv/test.stamp: WANTS = --editable ".[demo,gemini,media,report,server,client]" --group test
.venv/python.stamp: WANTS = --editable ".[demo,report,server,client]" --group test
.venv/gemini2.stamp: WANTS = --editable ".[demo,gemini,media,report]" "google-genai>=2.20,<3" --group test
.venv/langchain.stamp: WANTS = --editable ".[cli,langchain]" --group test-langchain
.venv/haystack.stamp: WANTS = --editable ".[cli,haystack]" --group test
.venv/llama-index.stamp: WANTS = --editable ".[cli,llama-index]" --group test
.venv/mteb.stamp: WANTS = --editable ".[cli,local,mteb]" --group test-mteb
.venv/migrate.stamp: WANTS = --editable ".[cli]" --group test-migrate
.venv/vectordbbench.stamp: WANTS = --editable ".[cli]" "vectordb-bench>=2,<3" --group test
.venv/pinecone.stamp: WANTS = --editable ".[cli]" "pinecone>=10.2,<11" --group test
.venv/console.stamp: WANTS = --editable ".[demo,server]" --group test-console
.venv/ray.stamp: WANTS = --editable ".[demo,ray-data,server]" --group test
.venv/s3.stamp: WANTS = --editable ".[demo,object-storage]" --group test-s3
.venv/hosted-python5.stamp: WANTS = "pinecone==5.4.2"
.venv/hosted-python6.stamp: WANTS = "pinecone==6.0.2"
.venv/hosted-python7.stamp: WANTS = "pinecone==7.3.0"
.venv/hosted-python8.stamp: WANTS = "pinecone==8.1.2"
.venv/hosted-python9.stamp: WANTS = "pinecone==9.1.0"
.venv/hosted-python10.stamp: WANTS = "pinecone==10.2.0"
.venv/hosted-node4.stamp: WANTS = @pinecone-database/pinecone@4.1.0
.venv/hosted-node6.stamp: WANTS = @pinecone-database/pinecone@6.1.4
.venv/hosted-node8.stamp: WANTS = @pinecone-database/pinecone@8.2.0
.venv/hosted-node9.stamp: WANTS = @pinecone-database/pinecone@9.0.0
.venv/hosted-qdrant.stamp: WANTS = "qdrant-client==1.20.0"
.venv/hosted-qdrant9.stamp: WANTS = "qdrant-client==1.9.2"
.venv/hosted-chroma.stamp: WANTS = "chromadb==1.5.9"
.venv/hosted-langchain.stamp: WANTS = "langchain-pinecone==0.2.13" "langchain-qdrant==1.1.0" "langchain-chroma==1.1.0"
.venv/hosted-llamaindex.stamp: WANTS = "llama-index-vector-stores-pinecone==0.9.0"
.venv/milvus.stamp: WANTS = "pymilvus==3.0.2" "milvus-lite==3.2.2"
.venv/fuzz.stamp: WANTS = --editable ".[arrow]" --group fuzz
.venv/lint.stamp: WANTS = --editable ".[demo,gemini,media,report,server,client]" --group test --group lint
.venv/bench.stamp: WANTS = --editable ".[demo]" --group bench
.venv/docs.stamp: WANTS = --editable ".[docs]"
.venv/package.stamp: WANTS = --group package

# hnswlib comes as source: without a C++ compiler its tests are skipped.
.venv/test.stamp: TRIES = hnswlib --editable ".[hnswlib]"

.venv/%.stamp: pyproject.toml tools/make-venv.sh tools/find-python.sh tools/try-install.sh
	@tools/make-venv.sh .venv/$* $(WANTS)
	@$(if $(TRIES),tools/try-install.sh .venv/$* $(TRIES))
	@touch $@

.venv/azurite.stamp: Makefile
	@mkdir -p .venv/azurite
	@! command -v npm >/dev/null || npm install --silent --no-audit --no-fund --prefix .venv/azurite azurite@3
	@touch $@

.venv/hosted-node%.stamp: Makefile
	@mkdir -p .venv/hosted-node$*
	@npm install --silent --no-audit --no-fund --prefix .venv/hosted-node$* $(WANTS)
	@touch $@

clean:
	rm -rf .venv build dist site .hypothesis .mypy_cache .pytest_cache .ruff_cache .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
