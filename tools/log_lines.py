"""Every line that the module can write to nginx's log at warn or above, as the source has it; for
tools/check_docs.py, which looks for each in docs/troubleshooting.md. A place that holds a value is
written as an ellipsis. What nginx itself says about a directive ("invalid number of arguments") is
nginx's and not here.
"""
import re

# Calls whose literals are (parts of) such lines.
CALLS = re.compile(r"log::(?:alert|warn)\(|ngx_conf_log_error!\(|Fault::Text\(|fault\(|"
                   r"return Err\(invalid|ngx\.log\(ngx\.(?:EMERG|ALERT|CRIT|ERR|WARN),")
# Texts that a setter hands to nginx, which writes them as an error of the configuration.
RETURNED = re.compile(r'(?:return |DUPLICATE: &CStr = )c"([^"]+)"')
# Errors that are passed on as they are: `log::alert(&format!("websocket: {err}"))`.
TEXTS = re.compile(r'(?:Self|\w*Error)::\w+ => "([^"]+)"')
PASSED_ON = ("crates/ws-hub/src/directory.rs", "crates/ws-hub/src/zone.rs")
LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)


def arguments(text, start):
    """From an open parenthesis to its partner; parentheses in literals do not count."""
    depth, i = 1, start
    while depth:
        if text[i] == '"':
            i = LITERAL.match(text, i).end()
            continue
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        i += 1
    return text[start:i - 1]


def plain(literal):
    """As it looks in the log: escapes resolved, values as an ellipsis, but for one it begins with."""
    text = re.sub(r"\\\n\s*", "", literal).replace('\\"', '"')
    return re.sub(r"\{[^}]*\}", "…", text).strip().removeprefix("… ")


def lines(root):
    """(file, text) of each."""
    found = []
    for path in sorted([*root.glob("src/**/*.rs"), *root.glob("src/**/*.lua")]):
        text, name = path.read_text(), str(path.relative_to(root))
        for call in CALLS.finditer(text):
            for literal in LITERAL.findall(arguments(text, call.end())):
                if re.search("[a-z]{3}", plain(literal)):
                    found.append((name, plain(literal)))
        found += [(name, literal) for literal in RETURNED.findall(text)]
    for name in PASSED_ON:
        texts = TEXTS.findall((root / name).read_text())
        assert texts, f"{name}: no error texts found"
        found += [(name, text) for text in texts]
    return found
