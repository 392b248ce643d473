# Every target needs only Go and make; everything else is fetched at a pinned version. Those for AWS also need npm.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS       := -s -w -X main.version=$(VERSION)
CHAOS_TIME    ?= 10m
CHAOS_ROLLOUT ?= 1000
SEED          ?= 0
FLEET         ?= 10000
FLEET_SPEED   ?= 5

# How many tests of a package run side by side: at least eight, because those that take long wait for processes.
PARALLEL      ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); echo $$((n > 8 ? n : 8)))
# What cross builds for.
CROSS         ?= linux/amd64 linux/arm64 darwin/arm64 windows/amd64

.DEFAULT_GOAL := help
.PHONY: help demo test chaos fleet rollout-fleet race lint bench bench-short build golden imports fuzz cross deploy-check e2e-aws chaos-aws

help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## Run the main job on this machine: capture, rebuild, verify
	./bin/recompose demo

test: ## Run the tests
	go test -timeout 20m -parallel $(PARALLEL) ./...

chaos: ## Kill, freeze and cut off workers, NATS and the service for CHAOS_TIME beside a rollout of CHAOS_ROLLOUT desktops, and count what was done; SEED repeats a run
	go test ./cmd/recompose -run '^TestChaos$$' -v -count=1 -timeout 2h -chaos.time $(CHAOS_TIME) -chaos.rollout $(CHAOS_ROLLOUT) \
		-chaos.seed $(SEED)

fleet: ## Rebuild FLEET desktops within the limits of the service while one answer in 20 is lost and three workers are killed in turn
	go test ./cmd/recompose -run '^TestFleet$$' -v -count=1 -timeout 2h -fleet.desktops $(FLEET) -fleet.speed $(FLEET_SPEED) \
		-fleet.workers 3 -fleet.kills 3 -fleet.lost 20 -fleet.most-calls 0.12

rollout-fleet: ## Bring an image to FLEET desktops in waves and back, 2% of which fail, while three workers are killed at random and NATS twice
	go test ./cmd/recompose -run '^TestRolloutFleet$$' -v -count=1 -timeout 2h -rollout.desktops $(FLEET) -rollout.speed $(FLEET_SPEED) \
		-rollout.workers 3 -rollout.kills 20s -rollout.restarts 2

e2e-aws: e2e/aws/node_modules/.package-lock.json ## Run the tests against independent servers of SQS, SNS and DynamoDB and AWS's schemas; needs npm
	go vet -tags e2e ./e2e/...
	go test -tags e2e -count=1 -timeout 20m -parallel $(PARALLEL) ./e2e/aws/...

chaos-aws: e2e/aws/node_modules/.package-lock.json ## Run the chaos test on the Lambda programs, for CHAOS_TIME; SEED repeats a run; needs npm
	go test -tags e2e ./e2e/aws -run '^TestChaos$$' -v -count=1 -timeout 2h -chaos.time $(CHAOS_TIME) -chaos.rollout $(CHAOS_ROLLOUT) \
		-chaos.seed $(SEED)

e2e/aws/node_modules/.package-lock.json: e2e/aws/package-lock.json
	npm ci --prefix e2e/aws --ignore-scripts --no-audit --no-fund
	@touch $@

deploy-check: build ## Check rules, dashboard, manifest and unit of deploy/ on a real worker, with the libraries of Prometheus and Kubernetes and systemd's linter
	go -C deploy/check test -vet=off -count=1 ./...
	deploy/systemd/verify

# Packages without goroutines, locks and shared state, and functions itself, whose tests start programs that are built without
# the detector.
SEQUENTIAL := /(events|functions|functions/(getdesktop|listdesktops|listimages)|shared/(chain|rollout|rollout/fence))

race: ## Run the tests of concurrent code with the race detector
	go test -race -parallel $(PARALLEL) $$(go list ./functions/... ./shared/... | grep -vE '$(SEQUENTIAL)$$')

lint: ## Check style and common mistakes
	go vet ./...
	go run $(GOLANGCI_LINT) run ./...
	! git grep -nE '^(<<<<<<<|>>>>>>>) '

bench: build ## Measure recompose against bare nats.go loops and Watermill, then its parts
	go -C bench run . -worker "$(CURDIR)/bin/recompose" -json "$(CURDIR)/bin/bench.json"
	go test -run '^$$' -bench . -benchmem ./...
	go test ./cmd/recompose -run '^TestFleet$$' -v -count=1 -timeout 2h -fleet.desktops $(FLEET) -fleet.speed $(FLEET_SPEED) -fleet.lost 0
	go test ./cmd/recompose -run '^TestRolloutFleet$$' -v -count=1 -timeout 2h -rollout.desktops $(FLEET) -rollout.speed $(FLEET_SPEED) \
		-rollout.back=false

bench-short: build ## Run each benchmark once, to see that it works
	go -C bench vet ./...
	go -C bench run . -short -worker "$(CURDIR)/bin/recompose" -json "$(CURDIR)/bin/bench-short.json"
	go test -run '^$$' -bench . -benchtime 1x ./events ./shared/...

build: ## Build bin/recompose
	CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)" -o bin/recompose ./cmd/recompose

golden: ## Write the golden files of events
	go test ./events -run Golden -parallel 1 -count 1 -update

imports: ## Draw the import graph in docs/architecture.md
	go test ./functions -run '^TestTheImportGraphIsFresh$$' -count 1 -update

fuzz: ## Run each fuzz target for ten seconds
	@for p in ./events ./shared/workspace ./shared/emulator; do \
	  for f in $$(go test $$p -list '^Fuzz' | grep '^Fuzz'); do \
	    go test $$p -run '^$$' -fuzz "^$$f$$" -fuzztime 10s || exit 1; \
	  done; \
	done

# Without optimization, which takes a third less time: only whether it builds is of interest.
cross: ## Check that it builds for every supported system
	@for t in $(CROSS); do \
	  echo "build $$t"; \
	  CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} go build -trimpath -gcflags 'all=-N -l' -o /dev/null ./cmd/recompose || exit 1; \
	done

# Targets of sam build: each builds the program of one function for Lambda on arm64.
ARTIFACTS_DIR ?= dist/$@
LAMBDA_ARCH   ?= arm64

build-%Function:
	CGO_ENABLED=0 GOOS=linux GOARCH=$(LAMBDA_ARCH) go build -trimpath -tags lambda.norpc -ldflags "-s -w -X recompose/shared/lambdaboot.version=$(VERSION)" \
		-o "$(ARTIFACTS_DIR)/bootstrap" ./functions/$(shell echo $* | tr A-Z a-z)/lambda
