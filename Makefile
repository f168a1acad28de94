# Everything a person or CI does with rescue6. 'make tools' is part of what needs it.
NAME ?= rescue6
IMAGE_FLAGS ?=
export CGO_ENABLED = 0

PACKAGES = qemu-system-arm:qemu-system-aarch64 qemu-system-x86:qemu-system-x86_64 dnsmasq-base:dnsmasq \
	iproute2:ip openssh-client:ssh openssh-server:sshd e2fsprogs:mkfs.ext4 mtools:mcopy tshark:tshark \
	iputils-ping:ping util-linux:setpriv
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help tools build image test check clean

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

tools: ## install what is missing (Debian; as root, or through sudo)
	@missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for p in $(PACKAGES); do command -v $${p#*:} >/dev/null || missing="$$missing $${p%:*}"; done; \
	[ -z "$$missing" ] || { echo "installing$$missing"; \
	$(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; }

build: ## build the programs for this machine into bin/
	go build -trimpath -o bin/ ./cmd/...

image: build ## build the SD image of one instance: make image NAME=attic
	bin/rescue image $(NAME) $(IMAGE_FLAGS)

check: ## formatting, vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool staticcheck ./...

test: tools check ## all tests
	go test -timeout 20m ./...

clean: ## remove what was built
	rm -rf bin *.img
