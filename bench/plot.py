"""results.svg from the figures: grouped bars on logarithmic scales, one panel a table. Plain SVG
with its own background, so that it reads on light and dark pages."""
import math

import goals

WIDTH, LEFT, ROW_GAP, BAR = 980, 240, 14, 11
COLOURS = {"floor": "#9aa5b1", "fastwebsockets": "#c98a2b", "tungstenite": "#8a6bbf", "stock": "#c0504d",
           "nchan": "#4f9d8f", "drop-in": "#2f6fd0", "messages": "#0b3d91", "hub": "#0b3d91"}
LABELS = {"stock": "pure Lua", "drop-in": "resty.websocket.server", "messages": "resty.websocket",
          "tungstenite": "tokio-tungstenite"}


def panels(results):
    """Title and groups (label, {server: value}) of each panel."""
    def rows(name, label=str):
        found = results.get(name) or []
        found = found.get("rows", []) if isinstance(found, dict) else found
        return [(label(row["row"]), {n: v["cpu_us"] for n, v in row["servers"].items()}) for row in found]

    yield "Echo: CPU per message, µs", rows("echo", goals.label)
    yield "Echo over TLS: CPU per message, µs", rows("tls", goals.label)
    yield "32 B echo by connections: CPU per message, µs", rows("curve")
    yield "Broadcast to 1000 subscribers: CPU per delivery, µs", rows("broadcast")
    memory = results.get("memory", {})
    if memory:
        yield "Memory of a connection, KB", [
            (label, {n: line[key] for n, line in memory.items() if line.get(key)})
            for key, label in (("fresh_kb", "fresh"), ("after_16384_kb", "after a 16 KiB message"))]


def text(x, y, content, size=12, anchor="start", weight="normal", fill="#222"):
    content = str(content).replace("&", "&amp;").replace("<", "&lt;")
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}" fill="{fill}">{content}</text>')


def short(value):
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def panel(title, groups, top):
    """The panel's elements, and where it ends."""
    values = [value for _, bars in groups for value in bars.values() if value > 0]
    low = 10 ** math.floor(math.log10(min(values) * 0.8))
    high = max(values) * 1.6
    width = WIDTH - LEFT - 30
    def at(value):
        return LEFT + width * math.log(max(value, low) / low) / math.log(high / low)
    out = [text(20, top + 18, title, 15, weight="bold")]
    height = sum(len(bars) * BAR + ROW_GAP for _, bars in groups)
    y = top + 34
    tick = low
    while tick <= high:
        out.append(f'<line x1="{at(tick):.1f}" y1="{y - 4}" x2="{at(tick):.1f}" y2="{y + height}" stroke="#e3e6ea"/>')
        out.append(text(at(tick), y + height + 12, f"{tick:g}", 10, "middle", fill="#777"))
        tick *= 10
    for label, bars in groups:
        out.append(text(LEFT - 8, y + len(bars) * BAR / 2 + 4, label, 11, "end"))
        for name, value in bars.items():
            length = max(at(value) - LEFT, 1)
            out.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 2}" '
                       f'fill="{COLOURS.get(name, "#555")}"/>')
            out.append(text(LEFT + length + 4, y + BAR - 3, short(value), 9, fill="#444"))
            y += BAR
        y += ROW_GAP
    return out, y + 24


def legend(names, top):
    out, x = [], 20
    for name in names:
        label = LABELS.get(name, name)
        out.append(f'<rect x="{x}" y="{top}" width="12" height="12" fill="{COLOURS.get(name, "#555")}"/>')
        out.append(text(x + 17, top + 10, label, 12))
        x += 32 + 7 * len(label)
    return out


def picture(results):
    drawn = [(title, groups) for title, groups in panels(results) if groups]
    names = list(dict.fromkeys(n for _, groups in drawn for _, bars in groups for n in bars))
    body = [text(20, 30, "nginx-lua-websocket beside the alternatives (shorter is better, logarithmic)", 17,
                 weight="bold"), *legend(names, 44)]
    y = 70
    for title, groups in drawn:
        elements, y = panel(title, groups, y)
        body += elements
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y:.0f}" '
            f'viewBox="0 0 {WIDTH} {y:.0f}" font-family="sans-serif">\n'
            f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n")
