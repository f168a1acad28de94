# Everything a person or CI does with rescue6. What is missing is installed by 'make tools'.
NAME ?= rescue6
IMAGE_FLAGS ?=
UPDATE_FLAGS ?=
BENCH ?= .
export CGO_ENABLED = 0

PACKAGES = qemu-system-arm:qemu-system-aarch64 qemu-system-x86:qemu-system-x86_64 dnsmasq-base:dnsmasq \
	iproute2:ip openssh-client:ssh e2fsprogs:mkfs.ext4 mtools:mcopy iputils-ping:ping util-linux:setpriv
TEST_PACKAGES = openssh-server:sshd tshark:tshark ndisc6:rdisc6 nftables:nft build-essential:gcc \
	avahi-daemon:avahi-daemon avahi-utils:avahi-browse dbus-daemon:dbus-daemon
BENCH_PACKAGES = thc-ipv6:atk6-alive6 ipv6toolkit:scan6 nmap:nmap
SUDO = $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: help tools test-tools build image update demo vm test check fuzz bench soak clean

help: ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

# QEMU's network cards want the boot code of ipxe-qemu, although nothing boots from them.
define install
	@missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for p in $(1); do command -v $${p#*:} >/dev/null || missing="$$missing $${p%:*}"; done; \
	case "$$missing" in *qemu*) missing="$$missing ipxe-qemu";; esac; \
	[ -z "$$missing" ] || { echo "installing$$missing"; \
	$(SUDO) apt-get update -qq && DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; }
endef

tools: ## install what the demo needs (Debian; as root, or through sudo)
	$(call install,$(PACKAGES))

test-tools:
	$(call install,$(PACKAGES) $(TEST_PACKAGES))

build: ## build the programs for this machine into bin/
	go build -trimpath -o bin/ ./cmd/...

demo: tools build ## show all of it: an emulated Pi loses IPv4, is found, and is logged into
	bin/rescue demo

vm: tools build ## the same network, and you at the laptop's prompt
	bin/rescue vm

image: build ## build the SD image of one instance: make image NAME=attic
	bin/rescue image $(NAME) $(IMAGE_FLAGS)

update: build ## build anew and send it to the running instance: make update NAME=attic
	bin/rescue update $(NAME) $(UPDATE_FLAGS)

check: ## formatting, vet, staticcheck, other systems
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go tool staticcheck ./...
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/rescue
	GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/rescue

FUZZTIME ?= 30s
fuzz: ## try what a hostile neighbour may send: make fuzz FUZZTIME=1h
	@for f in $$(git grep -o 'func Fuzz[A-Za-z]*' -- '*_test.go' | sed 's/:func /:/'); do \
	echo "$${f#*:} for $(FUZZTIME)"; \
	go test -run '^$$' -fuzz "^$${f#*:}\$$" -fuzztime $(FUZZTIME) ./$$(dirname $${f%%:*}) >fuzz.log || { cat fuzz.log; exit 1; }; \
	done; rm -f fuzz.log

test: test-tools check ## all tests; the last boot the images in QEMU
	CGO_ENABLED=1 go test -race -short -timeout 10m ./...
	$(MAKE) fuzz
	go test -timeout 20m -run '^TestBoot' ./cmd/rescue

bench: test-tools ## measure side by side with others: make bench BENCH=Login
	$(call install,$(BENCH_PACKAGES))
	go test -run '^$$' -bench '$(BENCH)' -benchtime 1x -timeout 60m ./cmd/rescued ./cmd/rescue ./cmd/scand

DURATION ?= 1h
soak: test-tools ## random faults under load: make soak DURATION=1h
	DURATION=$(DURATION) go test -count=1 -timeout 0 -run '^TestSoak$$' -v ./cmd/rescued

clean: ## remove what was built
	rm -rf bin *.img
