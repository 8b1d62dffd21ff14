BEGIN { $ENV{PYTHONPATH} = 't'; exec 'python3', '-x', $0 }  # the rest is Python, see t/lib/live.py
# An nginx of the same version and signature whose structs are others: refused when the configuration is
# read, in one line, and not by a crash later. Here the tables of the running binary are changed
# before it starts; `make matrix` has an nginx that was built so, beside one of another patch level.
import os
import subprocess

from lib.live import ROOT, Nginx, Tap, equal

tap = Tap()
SHIFT = """
#include <stddef.h>
struct header { size_t len; char *data; size_t offset; void *handler; };
/* Weak: nginx may be started by a shell, which has no such table and loads this library too. */
extern struct header ngx_http_headers_in[] __attribute__((weak));
__attribute__((constructor)) static void shift(void) {
    if (!ngx_http_headers_in) return;
    for (int n = 0; ngx_http_headers_in[n].len; n++)
        if (n >= FROM) ngx_http_headers_in[n].offset += BY;
}
"""


def says(name, *flags):
    """What nginx -t says with such a binary, as far as it is an error."""
    ng = Nginx(server="")
    library = f"{ROOT}/{name}.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-xc", "-", "-o", library, *flags], input=SHIFT,
                   text=True, check=True)
    done = subprocess.run(ng.command("-t"), text=True, capture_output=True,
                          env={**os.environ, "LD_PRELOAD": library})
    emergencies = [line for line in done.stderr.splitlines() if "[emerg]" in line]
    return done.returncode, emergencies


def refused(*flags):
    code, lines = says("shift", *flags)
    equal(code, 1)
    equal(len(lines), 1, lines)
    assert ("nginx-lua-websocket was built for another nginx (headers_in lies elsewhere): "
            "build it again in ") in lines[0], lines


tap.attempt("a field before all of them", lambda: refused("-DFROM=0", "-DBY=8"))
tap.attempt("a field between them", lambda: refused("-DFROM=9", "-DBY=8"))
tap.attempt("one field less", lambda: refused("-DFROM=2", "-DBY=-8"))
tap.attempt("the same ones", lambda: equal(says("same", "-DFROM=0", "-DBY=0"), (0, [])))
tap.done()
