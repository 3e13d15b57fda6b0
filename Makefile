VENV ?= .venv
BIN := $(VENV)/bin
COMPILED := $(VENV)-compiled
DOCS := $(VENV)-docs
SOURCES := pyproject.toml deploy/setup.sh deploy/compile_hook.py \
	$(shell find shared services -type f -not -path '*/__pycache__/*')
DNSTRAIL_CORPUS ?= $(abspath $(wildcard ../shared/corpus))
export DNSTRAIL_CORPUS
# No target keeps the names of this host, also as root.
export DNSTRAIL_HISTORY_FOLDER ?= none
unexport PYTHONDONTWRITEBYTECODE  # hundreds of processes would each compile all modules
ARGS ?=

.PHONY: help run compiled demo docs reference test test-long test-compiled test-corpus test-docker test-clickhouse test-web pictures check bench detections accuracy accuracy-live fleet model fuzz fuzz-peers soak faults packages clean
.DEFAULT_GOAL := help

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.run ## watch this host until Ctrl-C, from the best source that it permits (ARGS="..." for options)
	@deploy/setup-live.sh
	@if $(MAKE) --no-print-directory -q $(COMPILED)/.run; then exec $(COMPILED)/bin/dnstrail --stay $(ARGS); else \
	echo 'dnstrail: interpreted. After "make compiled", which takes some minutes, the cache needs half of the time for each event' >&2; \
	exec $(BIN)/dnstrail --stay $(ARGS); fi

compiled: $(VENV)/.run ## compile the image by mypyc for "make run"; it needs a C compiler
	@deploy/setup-compiler.sh $(VENV)
	@$(MAKE) --no-print-directory $(COMPILED)/.run
	@$(COMPILED)/bin/dnstrail --version

demo: $(VENV)/.run ## play the bundled capture: a lookup, its trails and a finding (no root needed)
	@$(BIN)/python -m dnstrail_cli.demo

docs: $(DOCS)/.docs ## build the site of the docs into dist/docs, without a warning
	$(DOCS)/bin/sphinx-build -W --keep-going -q -j auto -d dist/.doctrees docs dist/docs

reference: $(VENV)/.dev ## write docs/reference from the code; a test fails where they differ
	$(BIN)/python deploy/make_reference.py docs/reference
	$(BIN)/python deploy/make_detections_page.py docs/reference/detections.md

test: $(VENV)/.dev ## run the tests (ARGS="..." for pytest); as root also on the live kernel
	@deploy/setup-live.sh --tests
	@deploy/setup-encrypted.sh
	@deploy/setup-tunnels.sh
	@deploy/setup-accuracy.sh $(VENV)
	@deploy/setup-prometheus.sh
	@deploy/setup-fleet.sh
	@tests/run.sh $(BIN)/python $(ARGS)

test-long: $(VENV)/.dev ## run the tests of whole pipelines that take long, as root
	@deploy/setup-live.sh --tests
	@deploy/setup-tshark.sh
	@deploy/setup-zat.sh $(VENV)
	@deploy/setup-web.sh $(VENV)
	$(BIN)/python -m pytest tests/long $(ARGS)

test-web: $(VENV)/.dev ## run the tests of the page in Chromium, as root
	@deploy/setup-live.sh --tests
	@deploy/setup-web.sh $(VENV)
	DNSTRAIL_BROWSER=1 DNSTRAIL_SSE_CLIENTS=10000 DNSTRAIL_REQUIRE_LIVE=1 $(BIN)/python -m pytest tests/web/browser tests/web/test_attacks.py::test_thousands_of_strangers_are_kept_out $(ARGS)

test-compiled: $(VENV)/.run ## run the tests of decoder, image, cache, engine and sender, and the reference model, on code compiled by mypyc
	@deploy/setup-compiler.sh $(VENV)
	@$(MAKE) --no-print-directory $(COMPILED)/.dev
	$(COMPILED)/bin/dnstrail --version | grep compiled
	$(COMPILED)/bin/python -m pytest tests/shared/dns tests/shared/image tests/cache \
		tests/signatures/engine tests/signatures/builtin tests/signatures/detection tests/fleet/test_sender.py $(ARGS)
	$(COMPILED)/bin/python tests/soak/against_model.py --messages 20000

test-corpus: $(VENV)/.dev ## replay every capture of the corpus, and compare the answers of the largest with the model
	DNSTRAIL_ALL_CAPTURES=1 $(BIN)/python -m pytest tests/pipeline/test_replay_corpus.py tests/pipeline/test_get_against_model.py tests/pipeline/test_past_of_corpus.py $(ARGS)

test-docker: $(VENV)/.dev ## run the tests with real containers, on a Docker daemon of their own; as root
	@deploy/setup-live.sh --tests
	@deploy/setup-docker.sh
	@deploy/setup-fleet.sh
	DNSTRAIL_DOCKER=1 DNSTRAIL_REQUIRE_LIVE=1 $(BIN)/python -m pytest tests/docker -rP $(ARGS)

test-clickhouse: $(VENV)/.dev ## run the tests of the store of the fleet on ClickHouse's engine (560 MB)
	@deploy/setup-clickhouse.sh $(VENV)
	@deploy/setup-fleet.sh
	DNSTRAIL_CLICKHOUSE=1 HYPOTHESIS_PROFILE=short $(BIN)/python -m pytest tests/fleet/test_clickhouse.py \
		tests/fleet/test_store.py tests/fleet/test_answers.py tests/fleet/test_lookups_of_the_past.py \
		tests/fleet/test_stores_killed.py $(ARGS)

pictures: $(VENV)/.dev ## take pictures of the views over the bundled capture, for README and docs
	@deploy/setup-web.sh $(VENV)
	$(BIN)/python tests/web/browser/pictures.py docs

check: $(VENV)/.dev ## check style, types and layers (ruff, mypy, import-linter)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## measure costs, of the compiled form too if it is installed (ARGS="growth memory_million" for these sections)
	@test ! -d $(COMPILED) || $(MAKE) --no-print-directory $(COMPILED)/.dev
	$(BIN)/python tests/bench/bench.py --compiled $(COMPILED) $(ARGS)

detections: $(VENV)/.dev ## pass the corpus through the built-in signatures, and compare their findings with the expected ones
	$(BIN)/python tests/detections/detections.py $(ARGS)

fleet: $(VENV)/.dev ## measure over the corpus what a host sends, and compute the sizes of large fleets
	@deploy/setup-fleet.sh
	$(BIN)/python tests/bench/fleet_sizes.py

model: $(VENV)/.dev ## compare the image with the reference model over random messages (ARGS="--messages 1000000 --seed 1")
	$(BIN)/python tests/soak/against_model.py $(ARGS)

fuzz: $(VENV)/.dev ## hostile payloads for two minutes: the decoder against dnspython, and the image (ARGS="--seconds 600")
	$(BIN)/python tests/fuzz/fuzz.py $(ARGS)

fuzz-peers: $(VENV)/.dev ## hostile peers at every socket of real workers, as root (ARGS="--steps 100000 --seed 1")
	$(BIN)/python tests/fuzz/peers.py $(ARGS)

soak: $(VENV)/.dev ## an hour of fresh names, and of processes: memory stays flat; as root the whole pipeline too (ARGS="--minutes 30")
	@deploy/setup-live.sh --tests
	$(BIN)/python tests/soak/memory.py
	$(BIN)/python tests/soak/short_processes.py
	$(BIN)/python tests/soak/pipeline.py $(ARGS)

accuracy: $(VENV)/.dev ## measure over the corpus how often the name of a connection is found
	$(BIN)/python tests/accuracy/accuracy.py $(ARGS)

accuracy-live: $(VENV)/.dev ## measure with real clients in network namespaces how often a connection is named, as root (ARGS="--help")
	@deploy/setup-live.sh --tests
	@deploy/setup-accuracy.sh $(VENV) $(if $(findstring --clients all,$(ARGS)),--all)
	$(BIN)/python tests/accuracy/live/accuracy_live.py $(ARGS)

faults: $(VENV)/.dev ## kill, freeze and flood running workers, and measure what each fault costs (ARGS=--short: two minutes)
	$(BIN)/python tests/faults/faults.py $(ARGS)

packages: $(VENV)/.dev ## build the distribution and the Debian package in dist/, and install each in a folder of its own
	@deploy/setup-compiler.sh $(VENV)
	@command -v dpkg-deb >/dev/null && deploy/setup-compiler.sh /usr || true
	PATH="$(abspath $(BIN)):$$PATH" deploy/check-packages.sh

clean: ## remove the virtual environment, builds and caches
	rm -rf $(VENV) $(COMPILED) $(DOCS) .encrypted .tunnels .tshark .zat .clickhouse .clients .prometheus .valkey .docker dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.run: pyproject.toml deploy/setup.sh
	deploy/setup.sh $(VENV) .
	@touch $@

$(VENV)/.dev: pyproject.toml deploy/setup.sh
	deploy/setup.sh $(VENV) '.[dev]'
	@touch $@ $(VENV)/.run

$(DOCS)/.docs: pyproject.toml deploy/setup.sh
	deploy/setup.sh $(DOCS) '.[docs]'
	@touch $@

$(COMPILED)/.run: $(SOURCES)
	deploy/setup.sh --compiled $(COMPILED) .
	@touch $@

$(COMPILED)/.dev: $(SOURCES)
	deploy/setup.sh --compiled $(COMPILED) '.[dev]'
	@touch $@ $(COMPILED)/.run
