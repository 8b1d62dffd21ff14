#!/usr/bin/env python3
"""Runs the tables and writes RESULTS.md and results.svg. Started by run.sh.

--quick     a short run (about a minute), to see that everything works; its figures say little
--only X,Y  these tables alone (echo, tls, curve, broadcast, memory, light, connect, client, reload,
            syscalls, history, presence, proxy, broker); the others keep the figures of the last run
"""
import argparse
import json
import os
import time

import plot
import report
import servers
import tables


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default=",".join(tables.TABLES))
    options = parser.parse_args()
    wanted = options.only.split(",")
    if not servers.MODULE.exists():
        raise SystemExit(f"bench: {servers.MODULE} is missing: make build")

    servers.TARGET.mkdir(exist_ok=True)
    store = servers.TARGET / "results.json"
    results = json.loads(store.read_text()) if store.exists() and wanted != list(tables.TABLES) else {}
    pace = tables.QUICK if options.quick else tables.FULL
    began = time.monotonic()
    results["machine"] = report.machine(options.quick)
    for name in wanted:
        since = time.monotonic()
        print(f"bench: {name} ...", end="", flush=True)
        results[name] = tables.TABLES[name](pace)
        print(f" {time.monotonic() - since:.0f} s", flush=True)
        # A table that fails takes nothing from those before it: --only goes on from here.
        store.write_text(json.dumps(results, indent=1))
    results["machine"]["load_after"] = os.getloadavg()[0]
    results["machine"]["seconds"] = round(time.monotonic() - began)

    store.write_text(json.dumps(results, indent=1))
    (servers.BENCH / "RESULTS.md").write_text(report.document(results))
    (servers.BENCH / "results.svg").write_text(plot.picture(results))
    print(f"bench: RESULTS.md and results.svg written, {results['machine']['seconds']} s")


if __name__ == "__main__":
    main()
