"""One process of the Autobahn test suite, for Python 2.7 (build/autobahn/python2); run.py calls it.

    suite.py client URL  OPTIONS    fuzzes the server at URL and ends
    suite.py server      OPTIONS    waits for a client to be fuzzed, until it is told to end

The suite's own program writes its reports when everything is over, and waits for ever for a case
that hangs. This one writes a line of JSON for every case as it ends, preceded by one that names the
cases that are to come, and breaks off a case after --limit seconds (the suite's longest is 480). A
server takes a free port and prints its URL.
"""

import argparse
import json
import sys

import autobahntestsuite
from autobahntestsuite import choosereactor  # has to come before anything of Twisted
from autobahntestsuite import fuzzing
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet import reactor, ssl

# What is written of every case, and what besides of one whose result asks for a reason.
FACTS = ["id", "behavior", "behaviorClose", "duration", "remoteCloseCode", "wasClean", "result",
         "resultClose"]
DETAILS = ["description", "expectation", "expected", "expectedClose", "received", "wirelog",
           "httpRequest", "httpResponse", "closedByMe", "failedByMe", "droppedByMe",
           "remoteCloseReason", "localCloseCode", "wasNotCleanReason"]


class Recording(object):
    """What the two factories have in common: the output, and the limit on a case's time."""

    def announce(self):
        self.write({"suite": autobahntestsuite.version, "cases": self.specCases})

    def write(self, record):
        # Received data may be anything; in latin-1 every byte has a character.
        options.out.write(json.dumps(record, encoding="latin-1") + "\n")
        options.out.flush()

    def logCase(self, case):
        record = dict((name, case[name]) for name in FACTS)
        record["closeCodes"] = case["expectedClose"].get("closeCode")
        if case["behavior"] != "OK" or case["behaviorClose"] != "OK":
            record.update((name, case[name]) for name in DETAILS)
        self.write(record)

    def createReports(self):
        pass

    def end_in_time(self, protocol):
        def end():
            if protocol.state != WebSocketProtocol.STATE_CLOSED:
                protocol.transport.abortConnection()
        reactor.callLater(options.limit, end)
        return protocol


class Client(Recording, fuzzing.FuzzingClientFactory):
    # The base class connects as soon as it exists: before that, nothing can be announced.
    def nextServer(self):
        if self.currServer < 0:
            self.specCases = share(self.specCases)
            self.announce()
        return fuzzing.FuzzingClientFactory.nextServer(self)

    def buildProtocol(self, addr):
        return self.end_in_time(fuzzing.FuzzingClientFactory.buildProtocol(self, addr))


class Server(Recording, fuzzing.FuzzingServerFactory):
    def __init__(self, spec):
        fuzzing.FuzzingServerFactory.__init__(self, spec)
        self.specCases = share(self.specCases)
        self.announce()

    def buildProtocol(self, addr):
        return self.end_in_time(fuzzing.FuzzingServerFactory.buildProtocol(self, addr))


def share(cases):
    """This process's part: every so-manieth, since neighbours are alike in what they cost."""
    number, of = options.share
    return cases[number::of]


def serve(spec):
    server = Server(spec)
    if options.key:
        context = ssl.DefaultOpenSSLContextFactory(options.key, options.cert)
        listener = reactor.listenSSL(0, server, context, interface="127.0.0.1")
    else:
        listener = reactor.listenTCP(0, server, interface="127.0.0.1")
    url = "%s://127.0.0.1:%d" % ("wss" if options.key else "ws", listener.getHost().port)
    server.setSessionParameters(url=url)  # a request's Host is held against it
    return url


parser = argparse.ArgumentParser()
parser.add_argument("role", choices=["client", "server"])
parser.add_argument("url", nargs="?")
parser.add_argument("--cases", required=True, help="comma-separated patterns, as 1.*,9.1.1")
parser.add_argument("--share", default="0/1", help="N/M: the Nth of M parts, from 0")
parser.add_argument("--limit", type=float, default=500, help="seconds for a case")
parser.add_argument("--out", type=argparse.FileType("w"), required=True)
parser.add_argument("--protocol", action="append", help="client: offer this subprotocol")
parser.add_argument("--key", help="server: private key, for TLS")
parser.add_argument("--cert", help="server: certificate, for TLS")
options = parser.parse_args()
options.share = [int(n) for n in options.share.split("/")]

spec = {"cases": options.cases.split(","), "options": {}}
report, sys.stdout = sys.stdout, sys.stderr  # the suite chats on stdout
if options.role == "client":
    spec["servers"] = [{"agent": "nginx", "url": options.url, "protocols": options.protocol or []}]
    if not Client(spec).specCases:
        sys.exit()
else:
    spec["url"] = "wss://127.0.0.1" if options.key else "ws://127.0.0.1"
    report.write(serve(spec) + "\n")
    report.flush()
reactor.run()
