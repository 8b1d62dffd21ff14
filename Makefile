# Commands of nginx-lua-websocket. `make help` lists them; README's two are `make run` and `make test`.
# Another nginx: NGINX_SOURCE_DIR=... NGINX_BUILD_DIR=... make build
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

MODULE := build/ngx_http_lua_websocket_module.so
# Where nginx's headers are: the variables given, or Debian's nginx-dev configured into build/nginx.
HEADERS = lines=$$(tools/nginx-headers.sh build/nginx); export $$lines

