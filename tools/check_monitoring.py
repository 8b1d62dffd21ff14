#!/usr/bin/env python3
"""Checks docs/monitoring: every metric and label that the dashboard and the alert rules name is one that
websocket_status tells, and operating.md explains every alert. promtool, where there is one (Debian:
prometheus), checks the rules, tries them, and parses the dashboard's expressions.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
folder = root / "docs/monitoring"
faults = []

# Name and label of each counter, as Prometheus sees them.
table = (root / "crates/ws-hub/src/counters.rs").read_text()
known = {}
for kind, name, body in re.findall(r'^    (gauge|total) "(\w+)" "[^"]*" \{(.*?)\}$', table, re.M | re.S):
    known[f"websocket_{name}{'_total' if kind == 'total' else ''}"] = set(
        re.findall(r'"(\w+)" = "([^"]+)"', body))

# Those of brokers there are of each as well.
for name in [name for name in known if name.startswith("websocket_broker_")]:
    known[name.replace("_broker_", "_link_", 1)] = known[name]
known["websocket_link_away_seconds"] = set()

dashboard = json.loads((folder / "dashboard.json").read_text())
expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
rules = re.sub(r"(?m)^#.*", "", (folder / "alerts.yml").read_text())
for place, text in [("dashboard.json", "\n".join(expressions)), ("alerts.yml", rules)]:
    for name, labels in re.findall(r"\b(websocket_\w+)(\{[^}]*\})?", text):
        if name not in known:
            faults.append(f"{place}: {name} is no metric")
            continue
        for label, value in re.findall(r'(\w+)="(\w+)"', labels):
            if (label, value) not in known[name]:
                faults.append(f'{place}: {name} has no {label}="{value}"')

operating = (root / "docs/operating.md").read_text()
faults += [f"docs/operating.md: {alert} is not explained"
           for alert in re.findall(r"alert: (\w+)", rules) if f"`{alert}`" not in operating]


def promtool(*args):
    done = subprocess.run(["promtool", *args], cwd=folder, text=True, capture_output=True)
    if done.returncode != 0:
        faults.append(f"promtool {' '.join(args)}: {done.stdout}{done.stderr}")


if shutil.which("promtool"):
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        # JSON is YAML. Grafana puts its own variables in.
        plain = [text.replace("$__rate_interval", "5m") for text in expressions]
        json.dump({"groups": [{"name": "dashboard", "rules": [
            {"record": f"panel_{n}", "expr": text} for n, text in enumerate(plain)]}]}, file)
        file.flush()
        promtool("check", "rules", file.name)
else:
    print("monitoring: no promtool here, so that only names were compared")

for fault in faults:
    print(f"monitoring: {fault}", file=sys.stderr)
print(f"monitoring: {len(known)} metrics, {len(faults)} faults")
sys.exit(1 if faults else 0)
