//! Build script of the module: forwards nginx's configuration to `cfg(ngx_feature)`, and turns
//! `src/ffi/ngx_http_lua.h` into Rust declarations.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/ffi/ngx_http_lua.h");

    // nginx-sys reports what `configure` found; layouts of nginx's structs depend on it.
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES");
    let known = env::var("DEP_NGINX_FEATURES_CHECK").unwrap_or_else(|_| "any()".to_string());
    println!("cargo::rustc-check-cfg=cfg(ngx_feature, values({known}))");
    for feature in env::var("DEP_NGINX_FEATURES").unwrap_or_default().split(',') {
        let feature = feature.trim();
        if !feature.is_empty() {
            println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
        }
    }

    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindgen::Builder::default()
        .header("src/ffi/ngx_http_lua.h")
        .use_core()
        .allowlist_function("ngx_http_lua_.*")
        .blocklist_type("ngx_conf_t|ngx_conf_s|ngx_http_request_t|ngx_http_request_s")
        .blocklist_type("lua_State|lua_CFunction")
        .raw_line("use nginx_sys::{ngx_conf_t, ngx_http_request_t};")
        .raw_line("use mlua::ffi::lua_State;")
        .raw_line("pub type lua_CFunction = Option<mlua::ffi::lua_CFunction>;")
        .merge_extern_blocks(true)
        .layout_tests(false)
        .generate()
        .expect("bindgen over src/ffi/ngx_http_lua.h")
        .write_to_file(out.join("ngx_http_lua.rs"))
        .expect("writing the bindings");
}
