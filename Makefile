# Commands of nginx-lua-websocket. `make help` lists them; README's two are `make run` and `make test`.
# Another nginx: NGINX_SOURCE_DIR=... NGINX_BUILD_DIR=... make build
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULE := build/ngx_http_lua_websocket_module.so
# Where nginx's headers are: the variables given, or Debian's nginx-dev configured into build/nginx.
HEADERS = lines=$$(tools/nginx-headers.sh build/nginx); export $$lines

.PHONY: help run run-cluster test test-unit test-nginx test-clients test-valgrind test-assertions test-rust test-asan test-all test-poll test-attached test-brokers soak build check reference licences bench oracle conformance fuzz \
	fresh image matrix deb test-deb dist clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{printf "  make %-16s %s\n", $$1, $$2}'

run: ## install what is missing, build quickly, and serve the demo on http://127.0.0.1:8080/ (Ctrl-C ends it)
	@exec tools/run.sh

run-cluster: ## the demo on three machines (three nginx over one Redis), http://127.0.0.1:8081/ to 8083
	@tools/deps.sh brokers
	@START=nginx-conf/cluster/start.sh tools/run.sh

build: ## install what is missing and leave the module in build/
	@tools/deps.sh build
	@$(HEADERS); cargo build --release -p nginx-lua-websocket
	@mkdir -p build && cp target/release/libngx_http_lua_websocket_module.so $(MODULE).new && mv $(MODULE).new $(MODULE)
	@echo "built $(MODULE)"

test: build ## install what is missing, then unit tests, every t/*/*.t against a real nginx, and real clients
	@tools/deps.sh test
	@tools/test.sh

test-unit: ## tests of the crates that need no nginx
	@tools/deps.sh build
	cargo test --workspace --exclude nginx-lua-websocket

test-nginx: build ## every t/*/*.t (T="t/server/receive.t ..." for some) against a real nginx
	@tools/deps.sh test
	@t/prove.sh $(T)

test-clients: build ## Python websockets, Node ws and Chromium against a real nginx
	@t/clients/run.sh

test-valgrind: build ## t/*/*.t (or T=...) with nginx under valgrind; fails on an error or a definite leak of ours
	@tools/deps.sh valgrind
	@TEST_NGINX_USE_VALGRIND=1 TEST_NGINX_TIMEOUT=$${TEST_NGINX_TIMEOUT:-30} t/prove.sh $(T)

test-poll: build ## t/*/*.t with nginx on poll, a part with select and a byte at a time (T=... for some, QUICK=1: the part)
	@tools/deps.sh test
	@tools/test-poll.sh $(T)

test-attached: build ## what has connections without a request (T=...) once more, with websocket_detach off
	@tools/deps.sh test
	@TEST_NGINX_DETACH=off t/prove.sh $(or $(T),t/callbacks/*.t t/hub/*.t t/operations/*.t)

test-brokers: build ## t/hub/broker*.t (T=... for some): several nginx over real servers, which it installs where it can
	@tools/deps.sh test
	@tools/test-brokers.sh $(T)

soak: build ## SOAK_SECONDS (600) of aborts, TLS, compression, pushes and reloads; prints connections, lines, memory
	@tools/deps.sh test
	@python3 tools/soak.py

test-assertions: ## t/*/*.t (or T=...) with the module built with debug assertions and overflow checks
	@tools/deps.sh test
	@tools/checked.sh assertions $(T)

test-rust: ## the smallest Rust that Cargo.toml names builds it; rustup fetches that Rust
	@tools/deps.sh build
	@tools/oldest-rust.sh --install

test-asan: ## t/*/*.t (or T=...) with the module built with AddressSanitizer; a positive control comes first
	@tools/deps.sh test
	@tools/checked.sh asan $(T)

test-all: ## everything in full, an hour and more: check, test, the three builds above, valgrind, poll, Autobahn, the image, Debian 13
	@for part in check test-rust test test-assertions test-asan test-valgrind test-poll test-attached test-brokers conformance image "matrix ROWS=trixie"; do \
		$(MAKE) --no-print-directory $$part || exit; done

check: ## formatting, clippy with warnings as errors, layering, no circles, crates by deny.toml, documents
	@tools/deps.sh build
	cargo fmt --all --check
	@$(HEADERS); cargo clippy --release --workspace --all-targets -- -D warnings
	@$(HEADERS); RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps -p ws-proto -p ws-conn -p ws-hub
	@python3 tools/check_layers.py
	@python3 tools/check_circles.py
	@python3 tools/check_crates.py
	@python3 tools/check_docs.py
	@python3 tools/check_monitoring.py
	@python3 tools/licences.py --check
	@tools/oldest-rust.sh
	@! command -v cargo-deny >/dev/null || cargo deny check
	@! command -v hadolint >/dev/null || hadolint Dockerfile

reference: ## docs/reference.md from docs/manual.md
	@python3 tools/make_reference.py

licences: ## debian/copyright from Cargo.lock and the crates' own files
	@python3 tools/licences.py

bench: build ## CPU per message beside the alternatives; writes bench/RESULTS.md (a quarter of an hour)
	@bench/run.sh $(BENCH)

conformance: build ## Autobahn, all cases: server and client, by frames and by messages, and proxied (QUICK=1: a part, under six minutes)
	@conformance/run.sh $(if $(QUICK),--quick,--record)

oracle: build ## topics that remember, ORACLE seconds (600) long, with 500 subscribers that drop and resume while workers are killed
	@ORACLE=$(or $(ORACLE),600) ORACLE_CLIENTS=$(or $(ORACLE_CLIENTS),500) t/prove.sh -v t/hub/oracle.t

fuzz: ## cargo-fuzz over the codec, connections and brokers, FUZZ_SECONDS (60) for each target
	@tools/fuzz.sh $(or $(FUZZ_SECONDS),60)

fresh: ## README's two commands in a new Debian (SUITES="bookworm trixie ..."), as root
	@tools/fresh.sh $(SUITES)

image: ## the image's steps and its command, without a Docker engine: asked and published to from outside; as root
	@tools/test-image.sh

matrix: ## build and t/*/*.t on Debian 12, 13, sid and nginx 1.28 with ngx_lua linked in; writes the table in docs/installing.md; as root
	@tools/matrix.sh $(ROWS)

deb: build ## the package libnginx-mod-http-lua-websocket for the suite of this machine, in build/
	@tools/deb.sh

test-deb: ## build the package and install, upgrade, remove and purge it in chroots (SUITE=bookworm), as root
	@tools/test-deb.sh $(SUITE)

dist: ## the source archive with all crates, which builds without network, in build/
	@tools/deps.sh build
	@tools/dist.sh

clean: ## remove what the commands above made
	rm -rf build target t/servroot*
