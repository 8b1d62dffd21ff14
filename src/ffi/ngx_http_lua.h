/*
 * The part of ngx_lua this module calls: its preload hook, its idea of the current request, phase and
 * ngx.ctx, and its semaphores, the one means of parking a light thread that every version since 0.10.19 offers.
 * Debian ships no headers of ngx_lua; these declarations follow src/api/ngx_http_lua_api.h and
 * ngx_http_lua_semaphore.c. build.rs runs bindgen over this file.
 */
#include <stddef.h>

typedef struct ngx_conf_s ngx_conf_t;
typedef struct ngx_http_request_s ngx_http_request_t;
typedef struct lua_State lua_State;
typedef struct ngx_http_lua_sema_s ngx_http_lua_sema_t;

typedef int (*lua_CFunction)(lua_State *L);

long ngx_http_lua_add_package_preload(ngx_conf_t *cf, const char *package, lua_CFunction func);
lua_State *ngx_http_lua_get_global_state(ngx_conf_t *cf);
ngx_http_request_t *ngx_http_lua_get_request(lua_State *L);
int ngx_http_lua_ffi_get_phase(ngx_http_request_t *r, char **err);
int ngx_http_lua_ffi_get_ctx_ref(ngx_http_request_t *r, int *in_ssl_phase, int *ssl_ctx_ref);

int ngx_http_lua_ffi_sema_new(ngx_http_lua_sema_t **psem, int n, char **errmsg);
int ngx_http_lua_ffi_sema_post(ngx_http_lua_sema_t *sem, int n);
int ngx_http_lua_ffi_sema_wait(ngx_http_request_t *r, ngx_http_lua_sema_t *sem, int wait_ms,
                               unsigned char *err, size_t *errlen);
int ngx_http_lua_ffi_sema_count(ngx_http_lua_sema_t *sem);
void ngx_http_lua_ffi_sema_gc(ngx_http_lua_sema_t *sem);
