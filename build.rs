//! Build script of the module: forwards nginx's configuration to `cfg(ngx_feature)`, turns
//! `src/ffi/ngx_http_lua.h` into Rust declarations, and `src/ffi/layout.txt` into assertions about
//! nginx's structs and a table of their bit fields. What it cannot work with ends the build with one
//! line on standard error.

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
        .raw_line("pub use mlua::ffi::lua_State;")
        .raw_line("pub type lua_CFunction = Option<mlua::ffi::lua_CFunction>;")
        .merge_extern_blocks(true)
        .layout_tests(false)
        .generate()
        .expect("bindgen over src/ffi/ngx_http_lua.h")
        .write_to_file(out.join("ngx_http_lua.rs"))
        .expect("writing the bindings");

    let table = fs::read_to_string("src/ffi/layout.txt").expect("src/ffi/layout.txt");
    fs::write(out.join("layout.rs"), assertions(&table, &out)).expect("writing the assertions");
    let (checks, fields) = bit_fields(&table, &out);
    fs::write(out.join("bit_checks.rs"), checks).expect("writing the checks of bit fields");
    fs::write(out.join("bit_fields.rs"), fields).expect("writing the bit fields");
}

/// Ends the build; cargo shows the line below the script's name.
fn give_up(text: &str) -> ! {
    eprintln!("nginx-lua-websocket: {text}");
    process::exit(1)
}

/// What stands before the name of a bit field.
const BIT_FIELD: [char; 2] = [':', '='];

/// The structs of `table`, each with the words behind it.
fn structs(table: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
    table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words))
    })
}

/// Has the C compiler make `to` of C code behind nginx's headers, with nginx's own flags. Nothing is
/// run, so that this holds for another system's headers too.
fn compile(code: &str, how: &str, to: &Path) -> Vec<u8> {
    let source = to.with_extension("c");
    let headers = "#include <stddef.h>\n#include <ngx_config.h>\n#include <ngx_core.h>\n\
                   #include <ngx_http.h>\n";
    fs::write(&source, format!("{headers}{code}")).expect("writing C code");

    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_string());
    let mut words = compiler.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or("cc"));
    command.args(words).args([how, "-O0", "-w", "-o"]).arg(to).arg(&source);
    command.args(env::var("DEP_NGINX_CFLAGS").unwrap_or_default().split_whitespace());
    command.args(env::var("CFLAGS").unwrap_or_default().split_whitespace());
    command.arg("-fno-lto");
    let include = env::var_os("DEP_NGINX_INCLUDE").unwrap_or_default();
    for folder in env::split_paths(&include) {
        command.arg("-I").arg(folder);
    }
    match command.output() {
        Err(err) => give_up(&format!("the C compiler \"{compiler}\" cannot be run: {err}")),
        Ok(done) if !done.status.success() => {
            give_up(&format!("nginx's headers: {}", String::from_utf8_lossy(&done.stderr).trim()))
        }
        Ok(_) => fs::read(to).expect("what the compiler wrote"),
    }
}

/// One assertion for the size of each struct of `table`, and one for each field's offset, with the
/// values of the C compiler: read from the assembly, where each stands in a line of its own, as
/// Linux makes its asm-offsets.h.
fn assertions(table: &str, out: &Path) -> String {
    let mut c = String::from("void ngx_layout(void);\nvoid ngx_layout(void) {\n");
    for (kind, words) in structs(table) {
        let mut ask = |what: &str, expression: String| {
            writeln!(c, "__asm__ volatile (\"\\n@{kind} {what} %c0@\" : : \"i\" ({expression}));")
                .expect("writing to a string");
        };
        ask("-", format!("sizeof({kind})"));
        for field in words.filter(|word| !word.starts_with(BIT_FIELD)) {
            ask(field, format!("offsetof({kind}, {field})"));
        }
    }
    c.push_str("}\n");

    let assembly = compile(&c, "-S", &out.join("layout.s"));
    let mut rust = String::new();
    for line in String::from_utf8_lossy(&assembly).lines() {
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

/// Two pieces of Rust: a list of bindgen's methods, each with the bytes that C has it set, and one
/// constant for each bit field that is used where C has it. Each field is an initialised object for
/// the C compiler, found in the object file between two copies of its name.
fn bit_fields(table: &str, out: &Path) -> (String, String) {
    const NAME: usize = 64;
    let fields: Vec<(&str, &str)> = structs(table)
        .flat_map(|(kind, words)| words.map(move |word| (kind, word)))
        .filter(|(_, word)| word.starts_with(BIT_FIELD))
        .collect();
    let mut c = String::new();
    for (n, (kind, word)) in fields.iter().enumerate() {
        let (name, field) = (format!("\"@{kind}{word}@\""), &word[1..]);
        writeln!(
            c,
            "const struct {{ char name[{NAME}]; {kind} bits; char end[{NAME}]; }} ngx_bits_{n} =\n\
             {{ {name}, {{ .{field} = -1 }}, {name} }};"
        )
        .expect("writing to a string");
    }
    let object = compile(&c, "-c", &out.join("bits.o"));

    let (mut checks, mut constants) = (String::from("[\n"), String::new());
    for (kind, word) in fields {
        let mut name = format!("@{kind}{word}@").into_bytes();
        name.resize(NAME, 0);
        let mut copies = object.windows(NAME).enumerate().filter(|(_, bytes)| *bytes == name);
        let (Some((begin, _)), Some((end, _))) = (copies.next(), copies.next()) else {
            give_up("the C compiler told no bits of nginx's structs")
        };
        let bits = &object[begin + NAME..end];
        let set = |byte: &u8| *byte != 0;
        let (Some(first), Some(last)) = (bits.iter().position(set), bits.iter().rposition(set))
        else {
            give_up("the C compiler told no bits of nginx's structs")
        };
        let (masks, field) = (&bits[first..=last], &word[1..]);
        if word.starts_with(':') {
            writeln!(
                checks,
                "(\"{kind}.{field}\", is_at(|s: &mut {kind}| s.set_{field}(!0), {first}, &{masks:?})),"
            )
        } else {
            let short = kind.trim_start_matches("ngx_").trim_end_matches("_t");
            writeln!(
                constants,
                "/// `{field}` of `{kind}`.\npub const {}_{}: BitField<{kind}> = \
                 BitField::new({first}, &{masks:?});",
                short.to_uppercase(),
                field.to_uppercase()
            )
        }
        .expect("writing to a string");
    }
    checks.push_str("]\n");
    (checks, constants)
}
