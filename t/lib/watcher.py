"""Subscribers that know who is there: by the lines that JSON subscribers are told of members."""

import json

from lib.live import equal
from lib.peer import TEXT, Peer

# Where join and Watcher subscribe.
LOCATIONS = """
    location = /plain { websocket_subscribe $arg_topic info=$arg_info; websocket_shutdown_close off; }
    location = /json {
        websocket_subscribe $arg_topic info=$arg_info format=json; websocket_shutdown_close off;
    }
"""


def join(ng, topic, info, path="/plain", **more):
    """Somebody who is there."""
    return Peer(ng, f"{path}?topic={topic}&info={info}", **more)


class Watcher:
    """A subscriber in JSON format, and whom it knows to be there."""

    def __init__(self, ng, topic, info="", path="/json", **more):
        self.peer = Peer(ng, f"{path}?topic={topic}&info={info}", **more)
        self.topic, self.here, self.count, self.lists, self.data = topic, {}, None, 0, []
        equal(self.line()["resumed"], False)
        while not self.lists:
            self.step()

    def line(self):
        first, payload = self.peer.frame()
        equal(first, TEXT)
        line = json.loads(payload)
        equal(line["topic"], self.topic)
        return line

    def step(self):
        line = self.line()
        if "members" in line:
            self.lists += 1
            self.count = line["members"] if isinstance(line["members"], int) else None
            self.here = {} if self.count else {one["member"]: one for one in line["members"]}
        elif "data" in line:
            self.data.append(line["data"])
        else:
            equal(sorted(line), ["joins", "leaves", "topic"])
            for one in line["leaves"]:
                self.here.pop(one["member"], None)
            self.here.update((one["member"], one) for one in line["joins"])

    def infos(self):
        return sorted(one.get("info", "") for one in self.here.values())

    def until(self, infos):
        while self.infos() != sorted(infos):
            self.step()

    def close(self):
        self.peer.close()
