# The demo as an image: the first stage builds the module with the same `make build` as on any
# Debian machine, the last has only nginx, ngx_lua, the module and the demo.
#
#     docker build -t nginx-lua-websocket . && docker run --rm -p 8080:8080 nginx-lua-websocket
#     curl -d 'hello from a shell' http://127.0.0.1:8080/publish/lobby
#
# An image of your own may start from this one: the module is in nginx's modules folder, so that
# nginx-conf/minimal.conf works as it stands. With --target openresty it is OpenResty's image with
# the module in its modules folder instead; see docs/openresty.md.

ARG OPENRESTY=1.29.2.3-0

FROM debian:bookworm-slim AS build

# Debian 12's plain rustc is too old for mlua; its -web packages follow the releases.
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends ca-certificates cargo-web rustc-web make

WORKDIR /src

# On its own, so that a changed source does not install the packages again.
COPY tools/deps.sh tools/
RUN tools/deps.sh build

COPY . .
RUN make build


FROM openresty/openresty:$OPENRESTY-bookworm-buildpack AS openresty-build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends cargo-web rustc-web \
       libclang-dev libpcre2-dev libssl-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*

# The buildpack image has the compiler and the binary, not nginx's headers. OpenResty's configure builds
# LuaJIT and leaves nginx's objs/, which is all the module needs.
WORKDIR /openresty
RUN curl -fsSL "https://openresty.org/download/openresty-$(openresty -v 2>&1 | sed 's|.*/||').tar.gz" \
        | tar -xz --strip 1 \
    && ./configure --with-compat --with-http_ssl_module --with-threads --with-http_v2_module

WORKDIR /src
COPY . .
RUN NGINX_SOURCE_DIR=$(echo /openresty/build/nginx-*) make build


FROM openresty/openresty:$OPENRESTY-bookworm AS openresty

COPY --from=openresty-build /src/build/ngx_http_lua_websocket_module.so \
     /usr/local/openresty/nginx/modules/
RUN sed -i '1i load_module /usr/local/openresty/nginx/modules/ngx_http_lua_websocket_module.so;' \
        /usr/local/openresty/nginx/conf/nginx.conf \
    && openresty -t


FROM debian:bookworm-slim

RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends nginx libnginx-mod-http-lua lua-resty-core \
    && rm -rf /var/lib/apt/lists/*

COPY --from=build /src/build/ngx_http_lua_websocket_module.so /usr/lib/nginx/modules/

COPY debian/copyright /usr/share/doc/nginx-lua-websocket/copyright

WORKDIR /srv/nginx-lua-websocket
COPY nginx-conf nginx-conf
RUN mkdir -p build/run \
    && ln -s /usr/lib/nginx/modules/ngx_http_lua_websocket_module.so build/ \
    && chown www-data: build/run

# www-data, by number, so that an orchestrator sees that it is not root. Who publishes from outside of the
# container comes from a private address (its own bridge, at least); nothing else may.
USER 33:33
ENV LISTEN=0.0.0.0:8080
ENV PUBLISHERS="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=3s CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080"]
CMD ["nginx-conf/start.sh"]
