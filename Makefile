# Every target works on a fresh clone: it makes .venv and installs what it needs first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PERF_ANALYZER := $(VENV)/perf_analyzer

.PHONY: help install demo test lint fmt proto proto-check perf-analyzer wheel clean
.DEFAULT_GOAL := help

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## Make .venv with the project and its tools (CPU builds)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,dev]' -c constraints.txt
	@touch $@

demo: $(STAMP) ## Train, export, verify, serve, call and load-test on handwritten digits; pictures in demo/
	$(BIN)/vaeserve demo --out demo

test: lint ## Lint, type checks and every test
	-test -x $(PERF_ANALYZER)/perf_analyzer || $(MAKE) --no-print-directory perf-analyzer # its tests skip without it
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not gpu and not alone'
	$(BIN)/python -m pytest -q -m alone

lint: $(STAMP) proto-check graphs-check ## ruff, mypy, import rules, proto lint and drift
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(STAMP) ## Regenerate the wire code
	$(BIN)/python proto/generate.py python

.PHONY: graphs graphs-check
graphs: $(STAMP) ## Rewrite the small graphs that run beside a model's own on its device
	$(BIN)/python server/generate_graphs.py

graphs-check: $(STAMP)
	$(BIN)/python server/generate_graphs.py --check

proto-check: $(STAMP)
	$(BIN)/buf lint proto
	$(BIN)/python proto/generate.py python --check

perf-analyzer: $(STAMP) ## Fetch NVIDIA's perf_analyzer (Debian, Ubuntu) for its tests
	mkdir -p $(PERF_ANALYZER)/parts
	$(BIN)/python -m pip download --quiet --no-deps -d $(PERF_ANALYZER)/parts tritonclient==2.50.0 nvidia-cuda-runtime-cu12
	cd $(PERF_ANALYZER)/parts && apt-get download libb64-0d
	for wheel in $(PERF_ANALYZER)/parts/*.whl; do $(BIN)/python -m zipfile -e $$wheel $(PERF_ANALYZER)/parts; done
	dpkg-deb -x $(PERF_ANALYZER)/parts/*.deb $(PERF_ANALYZER)/parts
	find $(PERF_ANALYZER)/parts -name 'libb64.so*' -o -name 'libcudart.so*' -o -name perf_analyzer | xargs cp -t $(PERF_ANALYZER)
	chmod +x $(PERF_ANALYZER)/perf_analyzer
	rm -r $(PERF_ANALYZER)/parts

.PHONY: soak
soak: $(STAMP) ## A million calls through one server, which may not grow (needs h2load)
	PYTHONPATH=tests $(BIN)/python -m soak

.PHONY: results
results: $(STAMP) ## Train and measure the rows of docs/results.md; RESULTS='--data-dir DIR'; hours, resumable
	PYTHONPATH=tests $(BIN)/python -m results $(RESULTS)

wheel: $(STAMP) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean: ## Remove everything that make made
	rm -rf $(VENV) $(GPU_VENV) dist demo .image

.PHONY: bench bench-sdk bench-peers
BENCH_PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --target
bench: $(STAMP) ## Measure the server beside its peers; needs h2load; BENCH='--quick' or other options
	PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m bench $(BENCH)

.PHONY: bench-train
bench-train: $(STAMP) ## Measure what the trainer costs over a bare loop
	OMP_NUM_THREADS=1 PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m bench_train

bench-sdk: $(STAMP) ## Measure what the Python SDK costs over a raw stub call
	PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python -m bench.sdk

.PHONY: prove-diagnose
prove-diagnose: $(STAMP) ## Train with the losses people get wrong: each must be named, the right one not
	PYTHONPATH=tests $(BIN)/python -m prove_diagnose

bench-peers: $(STAMP) ## Install what bench compares with (Triton, uvloop) into .bench/peers
	$(BENCH_PIP) .bench/peers/triton-server --no-deps nvidia-pytriton==0.7.0
	$(BENCH_PIP) .bench/peers/triton-python 'numpy<2' onnxruntime==1.32.0
	$(BENCH_PIP) .bench/peers/uvloop uvloop==0.23.0

# An environment of its own: onnxruntime and onnxruntime-gpu own one import name.
GPU_VENV := .venv-gpu
GPU_STAMP := $(GPU_VENV)/installed
GPU_TOOLS = pytest pytest-asyncio pytest-timeout hypothesis

$(GPU_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		-e '.[gpu,train,loadtest]' $(GPU_TOOLS) -c constraints.txt
	@touch $@

.PHONY: gpu-check
gpu-check: $(GPU_STAMP) ## Check and measure serving on CUDA (9 minutes); GPU_CHECK='--device cuda:1'
	PYTHONPATH=tests$${PYTHONPATH:+:$$PYTHONPATH} $(GPU_VENV)/bin/python -m gpu_check $(GPU_CHECK)

.PHONY: image image-check
image: $(STAMP) ## Build the image of the server with Docker or buildah; EXTRA=gpu, BASE=IMAGE
	$(BIN)/python deploy/image_build.py $(if $(EXTRA),--extra $(EXTRA)) $(if $(BASE),--base $(BASE))

image-check: $(STAMP) ## Build the CPU image, run it, Encode against it, stop it
	$(BIN)/python deploy/image_check.py $(if $(BASE),--base $(BASE))

.PHONY: prove-latent prove-smiles
prove-latent: $(STAMP) ## Prove the latent toolkit on real data (20 CPU minutes); PROVE='--data-dir DIR'
	PYTHONPATH=tests $(BIN)/python -m proofs.latent $(PROVE)

prove-smiles: $(STAMP) ## Prove the smile edit on faces (15 CPU minutes); PROVE='--data-dir DIR'
	PYTHONPATH=tests $(BIN)/python -m proofs.smiles $(PROVE)
