"""What the module must reach, each goal as a number and a limit."""
import dataclasses

KIB, MIB = 1024, 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Goal:
    """`value` is to be at most (or at least) `limit`; None where it could not be measured."""
    text: str
    value: float | None
    limit: float
    least: bool = False
    unit: str = "×"

    @property
    def met(self):
        if self.value is None:
            return None
        return self.value >= self.limit if self.least else self.value <= self.limit


def label(row):
    size, connections, depth = row
    name = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB" if size >= KIB else f"{size} B"
    return f"{name}, {connections} connection{'s' * (connections > 1)}, {depth} in flight"


def cpu(row, name):
    return row["servers"].get(name, {}).get("cpu_us")


def ratio(top, bottom):
    return top / bottom if top and bottom else None


def all_goals(results):
    return [goal for part in (echo, callbacks, tls, curve, broadcast, memory, light, connect, reload, client,
                                                     history, presence, proxy, broker)
            for goal in part(results)]


def apis(results):
    found = {name for row in results.get("echo", []) for name in row["servers"]}
    return [name for name in ("drop-in", "messages") if name in found]


def echo(results):
    for row in results.get("echo", []):
        size, connections, depth = row["row"]
        if size >= MIB:
            peer, limit, stock = "tungstenite", 1.25, 8
        elif size >= 16 * KIB:
            peer, limit, stock = "fastwebsockets", 1.1, 5
        elif depth > 1:
            peer, limit, stock = "tungstenite", 1.0, 10
        else:
            peer, limit, stock = "fastwebsockets", 1.05, 1
        for api in apis(results):
            name = f"{label(row['row'])}, {api}"
            yield Goal(f"{name}: CPU / {peer}", ratio(cpu(row, api), cpu(row, peer)), limit)
            yield Goal(f"{name}: stock / CPU", ratio(cpu(row, "stock"), cpu(row, api)), stock, least=True)


def callbacks(results):
    limits = {(32, 1): ("fastwebsockets", 1.05), (KIB, 1): ("fastwebsockets", 1.05),
              (32, 16): ("tungstenite", 0.9), (KIB, 16): ("tungstenite", 1.25)}
    for row in results.get("echo", []):
        size, _, depth = row["row"]
        if (size, depth) in limits and "callbacks" in row["servers"]:
            peer, limit = limits[size, depth]
            value = ratio(cpu(row, "callbacks"), cpu(row, peer))
            yield Goal(f"{label(row['row'])}, callbacks: CPU / {peer}", value, limit)


def tls(results):
    for row in results.get("tls", []):
        for api in apis(results):
            share = row["servers"].get(api, {}).get("outside")
            yield Goal(f"wss, {label(row['row'])}, {api}: outside OpenSSL and kernel",
                       share and share * 100, 15, unit="%")


def curve(results):
    rows = results.get("curve", [])
    for api in apis(results) if rows else []:
        rise = ratio(cpu(rows[-1], api), cpu(rows[1], api))
        floor = ratio(cpu(rows[-1], "floor"), cpu(rows[1], "floor"))
        beyond = rise / floor if rise and floor else None
        yield Goal(f"{rows[-1]['row']} against 100 connections, {api}: rise beyond the floor's own", beyond, 1.1)


def broadcast(results):
    found = results.get("broadcast", {})
    limits = {"next message when all have the last": 0.85, "16 messages in a burst": 0.2}
    for row in found.get("rows", []):
        if row["row"] in limits:
            value = ratio(cpu(row, "hub"), cpu(row, "nchan"))
            yield Goal(f"broadcast, {row['row']}: CPU / nchan", value, limits[row["row"]])
    one = {row["row"]: row for row in found.get("rows", [])}
    for name, two in found.get("two", {}).items():
        yield Goal(f"broadcast, {name}: 2 workers / 1", ratio(two["cpu_us"], cpu(one[name], "hub")), 1.05)
        shares = two["cpu_shares"]
        yield Goal(f"broadcast, {name}: larger share of 2 workers", max(shares) / sum(shares) * 100, 60, unit="%")
    topics = found.get("topics", {})
    if topics:
        topics = {int(n): line["cpu_us"] for n, line in topics.items()}
        yield Goal("broadcast: 100 topics a connection / 1", ratio(topics[100], topics[1]), 1.05)


def memory(results):
    for api in apis(results):
        line = results.get("memory", {}).get(api)
        if line:
            fresh = line["fresh_kb"]
            yield Goal(f"memory of an idle connection, {api}", fresh, 9, unit="KB")
            yield Goal(f"after a 16 KiB message, {api}", line[f"after_{16 * KIB}_kb"] / fresh, 1.1)
            yield Goal(f"after a 1 MiB message, {api}", line[f"after_{MIB}_kb"] / fresh, 1.1)
    line = results.get("memory", {}).get("callbacks")
    if line:
        for size, after in ("16 KiB", 16 * KIB), ("1 MiB", MIB):
            yield Goal(f"after a {size} message, callbacks", line[f"after_{after}_kb"] / line["fresh_kb"], 1.1)

    fresh = results.get("memory", {}).get("deflate, no context takeover")
    if fresh:
        left = fresh[f"after_{16 * KIB}_kb"] / fresh["fresh_kb"]
        yield Goal("memory with deflate without context takeover, after a compressed message / fresh", left, 1.1)


def light(results):
    limits = {"subscriber": 1.5, "subscriber, access log": 1.8, "subscriber, TLS": 15.6,
              "subscriber, access log, TLS": 15.9, "callbacks, access log": 2.3}
    for name, counts in results.get("light", {}).items():
        if name in limits:
            most = max(counts, key=int)
            yield Goal(f"memory of {most} idle connections, {name}", counts[most], limits[name], unit="KB")


def connect(results):
    for row in results.get("connect", []):
        for api in [*apis(results), "subscriber"]:
            yield Goal(f"opening and closing, {api}: CPU / stock", ratio(cpu(row, api), cpu(row, "stock")), 1.0)


def reload(results):
    line = results.get("reload")
    if line:
        name = f"reload with {line['connections']} connections: p99 of new requests"
        yield Goal(name, line["after"]["p99_ms"], 50, unit="ms")


def client(results):
    for row in results.get("client", []):
        if row["row"] == 16 * KIB:
            value = ratio(cpu(row, "stock"), cpu(row, "drop-in"))
            yield Goal("client, 16 KiB echo: stock / CPU", value, 4, least=True)


def history(results):
    found = results.get("history")
    if not found:
        return
    for row in found["publish"]:
        n = row["row"]
        for form in ("raw", "JSON"):
            plain, kept = cpu(row, f"plain, {form}"), cpu(row, f"kept, {form}")
            name = f"publish to a history topic, {n} subscribers, {form}"
            if n >= 1000:
                yield Goal(f"{name}: CPU / plain", ratio(kept, plain), 1.05)
            else:
                yield Goal(f"{name}: CPU beyond plain", kept - plain, 2 if n else 3, unit="µs")
    first, last = found["topics"][0], found["topics"][-1]
    rise, plain = (ratio(cpu(last, kind), cpu(first, kind)) for kind in ("kept:", "plain:"))
    yield Goal(f"publish to {last['row']} history topics against 1: rise beyond plain topics' own", rise / plain, 1.1)
    resume = found["resume"]
    yield Goal("100 messages resumed: CPU / live as a burst", ratio(resume["resumed"], resume["live"]), 2)
    storm = found["storm"]
    yield Goal(f"{storm['clients']} clients resume at once: p99 of other requests", storm["p99_ms"], 50, unit="ms")
    yield Goal("a message of 100 B in the history zone", found["memory"]["message"], 200, unit="B")
    yield Goal("a topic with a name of 32 B in the history zone", found["memory"]["topic"], 320, unit="B")


def presence(results):
    found = results.get("presence")
    if found:
        few, many = found["join_leave_us"].values()
        yield Goal(f"{found['members']} members asked for: the longest wait of another request", found["max_ms"], 5, unit="ms")
        yield Goal(f"a member comes and goes, among {found['members']} / among 100: CPU", ratio(many, few), 1.15)


def proxy(results):
    found = results.get("proxy")
    if not found:
        return
    message, before = "websocket.proxy, on_message", found["before"]
    for row in found["rows"]:
        size, _, depth = row["row"]
        name, small = label(row["row"]), size < KIB
        tunnel = 1.5 if small and depth == 1 else 2
        yield Goal(f"{name}: CPU of websocket_proxy / the tunnel", ratio(cpu(row, "websocket_proxy"), cpu(row, "tunnel")), tunnel)
        if not small:
            yield Goal(f"{name}: CPU of {before} / {message}", ratio(cpu(row, before), cpu(row, message)), 4 if depth == 1 else 6, least=True)
        elif depth == 1:
            yield Goal(f"{name}: CPU of {message} / {before}", ratio(cpu(row, message), cpu(row, before)), 1)
    memory = found["memory"]
    yield Goal("a silent pair: memory of websocket_proxy / the tunnel", ratio(memory["websocket_proxy"], memory["tunnel"]), 1.3)


def broker(results):
    found = results.get("broker")
    if not found:
        return
    alone, burst = found["plain"]["1"], found["plain"]["16"]
    for name, key in ("out", "out_us"), ("in", "in_us"):
        yield Goal(f"broker, a plain message alone, {name}: CPU of the gateway / floor", ratio(alone[key], found["floor_us"]), 1.3)
        yield Goal(f"broker, plain messages in bursts of 16, {name}: CPU of the gateway", burst[key], 3, unit="µs")
    for row, name in (alone, "alone"), (burst, "in bursts of 16"):
        yield Goal(f"broker, local delivery {name}: CPU with a broker / without", ratio(row["local_with_us"], row["local_us"]), 1.05)
    server = found["server"]
    yield Goal("broker, a history message: CPU of Redis / PUBLISH", ratio(server["script, one message"], server["PUBLISH"]), 18)
    yield Goal("broker, ten history messages a turn, each: CPU of Redis / PUBLISH", ratio(server["script, ten messages"], server["PUBLISH"]), 8)
    wanted = found["wanted"]
    yield Goal(f"broker, {wanted['topics']} topics subscribed again after a lost connection", wanted["seconds"], 10, unit="s")
    yield Goal("broker, memory of the gateway for a topic beyond its name", wanted["bytes"], 150, unit="B")
    late = found["latency"]
    yield Goal("broker, publish to delivery, idle, median / Redis alone", ratio(late["far_us"], late["bare_us"]), 2)
    for burst, row in found["nchan"]["cpu_us"].items():
        for name in "plain", "kept":
            yield Goal(f"broker, {name} topics, {burst} in a burst: CPU of a delivery, Redis included / nchan", ratio(row[name], row["nchan"]), 1)
    yield Goal("broker, plain topics go on at home without Redis", float(found["nchan"]["goes_on"]["plain"]), 1, least=True, unit="")
