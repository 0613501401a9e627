# Every target is one line; what needs more is a script in .ci/. The tools are built from their modules into bin/tools, so
# nothing has to be installed beforehand but Go, and npm for the ClickHouse engine of the tests.
SHELL := /bin/bash
.DEFAULT_GOAL := help
TOOLS := $(CURDIR)/bin/tools
# Every package that does not start the embedded servers: under the race detector those alone take minutes to build.
LIGHT = $(shell go list -f '{{.ImportPath}} {{join .Imports " "}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./... | grep -v /internal/devstack | cut -d' ' -f1)
FUZZTIME ?= 30s

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "%-16s %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/onramp
	go build -o bin/onramp ./cmd/onramp

.PHONY: lint
lint: ## Format, vet, linters, modern idioms, determinism of workflow code
	bash .ci/lint $(TOOLS)

.PHONY: test
test: ## All tests, against real servers that the tests start themselves; then ours again under the race detector
	go test -timeout 14m ./... && $(MAKE) --no-print-directory race

.PHONY: race
race: ## Tests of the light packages under the race detector, shuffled
	go test -race -shuffle=on -short -timeout 14m $(LIGHT)

.PHONY: short
short: ## Quick tests while editing: no servers but NATS in process
	go test -short $(LIGHT)

.PHONY: replay-test
replay-test: ## Replay recorded histories against today's workflow code
	go test -run 'Replay' -v ./workflows/... ./worker/...

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (30s) each
	bash .ci/fuzz $(FUZZTIME)

CHAOS_KILLS ?= 300

.PHONY: chaos
chaos: ## Kill, stop, cut and flood the whole engine, and let verify judge: about an hour; CHAOS_SEED repeats a run
	CHAOS=full CHAOS_KILLS=$(CHAOS_KILLS) go test -count=1 -timeout 2h -v -run '^TestChaos' ./cmd/onramp

.PHONY: bench
bench: ## Measure the path against bare SDK loops on the same embedded servers: ratios
	go run ./cmd/onramp bench
	go test ./outcome -run '^$$' -bench Archive -benchtime 6x

.PHONY: generate-check
generate-check: ## Fail where generated files differ from what is committed
	go generate ./... && git diff --exit-code

.PHONY: check
check: ## What CI runs: lint, tests, the build without servers, a short fuzz
	bash .ci/run

.PHONY: clean
clean: ## Remove what was built; the ClickHouse engine in the user's cache folder stays
	rm -rf bin && go clean -testcache
