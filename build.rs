//! Build script of the module: forwards nginx's configuration to `cfg(ngx_feature)`, turns
//! `src/ffi/ngx_http_lua.h` into Rust declarations, and `src/ffi/layout.txt` into assertions about
//! nginx's structs. What it cannot work with ends the build with one line on standard error.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/ffi/ngx_http_lua.h");
    println!("cargo:rerun-if-changed=src/ffi/layout.txt");
    println!("cargo:rerun-if-env-changed=CC");

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

    let table = fs::read_to_string("src/ffi/layout.txt").expect("src/ffi/layout.txt");
    fs::write(out.join("layout.rs"), assertions(&table, &out)).expect("writing the assertions");
}

/// Ends the build; cargo shows the line below the script's name.
fn give_up(text: &str) -> ! {
    eprintln!("nginx-lua-websocket: {text}");
    process::exit(1)
}

/// One assertion for the size of each struct of `table`, and one for each field's offset, with the
/// values of the C compiler that nginx's own flags are given to.
///
/// Nothing is run, so that this holds for another system's headers too: the values are read from the
/// assembly, where each stands in a line of its own, as Linux makes its asm-offsets.h.
fn assertions(table: &str, out: &Path) -> String {
    let mut c =
        String::from("#include <stddef.h>\n#include <ngx_config.h>\n#include <ngx_core.h>\n");
    c.push_str("#include <ngx_http.h>\nvoid ngx_layout(void);\nvoid ngx_layout(void) {\n");
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(kind) = words.next() else { continue };
        let mut ask = |what: &str, expression: String| {
            writeln!(c, "__asm__ volatile (\"\\n@{kind} {what} %c0@\" : : \"i\" ({expression}));")
                .expect("writing to a string");
        };
        ask("-", format!("sizeof({kind})"));
        for field in words {
            ask(field, format!("offsetof({kind}, {field})"));
        }
    }
    c.push_str("}\n");
    let (source, assembly) = (out.join("layout.c"), out.join("layout.s"));
    fs::write(&source, c).expect("writing layout.c");

    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_string());
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command.args(words).args(["-S", "-O0", "-w", "-o"]).arg(&assembly).arg(&source);
    command.args(env::var("DEP_NGINX_CFLAGS").unwrap_or_default().split_whitespace());
    command.args(env::var("CFLAGS").unwrap_or_default().split_whitespace());
    let include = env::var_os("DEP_NGINX_INCLUDE").unwrap_or_default();
    for folder in env::split_paths(&include) {
        command.arg("-I").arg(folder);
    }
    match command.output() {
        Err(err) => give_up(&format!("the C compiler \"{compiler}\" cannot be run: {err}")),
        Ok(done) if !done.status.success() => {
            give_up(&format!("nginx's headers: {}", String::from_utf8_lossy(&done.stderr).trim()))
        }
        Ok(_) => {}
    }

    let assembly = fs::read_to_string(&assembly).expect("the compiler's assembly");
    let mut rust = String::new();
    for line in assembly.lines() {
        let Some(answer) = line.trim().strip_prefix('@').and_then(|l| l.strip_suffix('@')) else {
            continue;
        };
        let words: Vec<&str> = answer.split(' ').collect();
        let [kind, what, value] = words[..] else { continue };
        let (asked, name) = match what {
            "-" => (format!("size_of::<{kind}>()"), kind.to_string()),
            "type" => (format!("offset_of!({kind}, type_)"), format!("{kind}.type")),
            field => (format!("offset_of!({kind}, {field})"), format!("{kind}.{field}")),
        };
        writeln!(
            rust,
            "const _: () = assert!({asked} == {value}, \"{name} lies elsewhere in C\");"
        )
        .expect("writing to a string");
    }
    if rust.is_empty() {
        give_up("the C compiler told no sizes of nginx's structs");
    }
    rust
}
