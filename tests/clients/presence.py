"""Connections, takeovers, losses and farewells by paho, and kill -9 in between: the log tells of each connection, of its
end, and of its will, once."""

import collections
import json
import random
import threading

from device import V4, V5, Device
from harness import Failed, Server, equal, expect, wait

CRASHES = 3
CLIENTS = 4
# Connections that must be made between two crashes.
BETWEEN = 60


class Storm(threading.Thread):
    """Connects and goes in one way or another, until told to stop."""

    def __init__(self, server, number, seed):
        super().__init__(daemon=True)
        self.server = server
        self.client_id = f"storm-{number}"
        self.dice = random.Random(seed * 100 + number)
        self.welcomed = 0
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            try:
                self.turn()
            except (OSError, Failed, AttributeError):
                # The server is dead, or died while this was waiting for an answer.
                self.stopped.wait(0.05)

    def connect(self):
        version = self.dice.choice((V4, V5))
        expiry = self.dice.choice((0, 3600))
        will = ("storm/wills", f"{self.client_id}", self.dice.choice((0, 1, 2)), False)
        device = Device(self.server, self.client_id, version=version, clean=expiry == 0, expiry=expiry, will=will)
        self.welcomed += 1
        return device

    def turn(self):
        first = self.connect()
        if self.dice.random() < 0.3:
            # A takeover.
            second = self.connect()
            first.client.loop_stop()
            first = second
        if self.dice.random() < 0.5:
            first.leave()
        else:
            first.break_off()


def run(checks, binary, folder):
    seed = random.randrange(1 << 30)
    with Server(binary, folder) as server:
        storms = []
        with checks.check(f"presence: {CRASHES} kills in a storm of connections, twice in a row each (seed {seed})"):
            server.start()
            storms = [Storm(server, number, seed) for number in range(CLIENTS)]
            for storm in storms:
                storm.start()
            for crash in range(CRASHES + 1):
                goal = sum(storm.welcomed for storm in storms) + BETWEEN
                wait("more connections", lambda: sum(storm.welcomed for storm in storms) >= goal, 60)
                if crash < CRASHES:
                    server.kill()
                    # The next start dies while it writes down what the kill cut off, and the one after soon after that.
                    start_and_die(server)
                    server.start()
                    server.kill()
                    server.start()
        for storm in storms:
            storm.stopped.set()
        for storm in storms:
            storm.join(60)
        if server.process is None or server.process.poll() is not None:
            return
        judge(checks, server, storms)
    with checks.check("wills: said twice with a bug injected, so that these checks can fail"):
        can_fail(binary, folder / "bug")


def start_and_die(server):
    """A start that aborts where a debug build is told to. (A release build knows no such place, and is killed.)"""
    environment, server.environment = server.environment, {**server.environment, "HEDGEROW_FAULT": "gateway.after_ends"}
    try:
        server.start()
    except Failed:
        pass
    server.kill()
    server.environment = environment


def can_fail(binary, folder):
    with Server(binary, folder, environment={"HEDGEROW_BUG": "end_without_note"}) as server:
        server.start()
        devices = [Device(server, f"storm-{number}", will=("storm/wills", "x", 1, False)) for number in range(3)]
        for _ in range(2):
            server.kill()
            server.start()
        for device in devices:
            device.client.loop_stop()
        said = "SELECT count(*) FROM ingest_log WHERE topic = 'storm/wills'"
        wait("each will twice, or the build knows no bugs", lambda: server.one(said) == 6)


def judge(checks, server, storms):
    with checks.check("presence: nobody is left in system.connections"):
        wait("an empty table", lambda: server.one("SELECT count(*) FROM system.connections") == 0, 30)
    where = "kind = 'message' AND topic LIKE '$aws/events/presence/%' AND payload_text LIKE '%\"storm-%'"
    rows = server.sql(f'SELECT payload_text FROM ingest_log WHERE {where} ORDER BY "offset"')
    events = [json.loads(row[0]) for row in rows]
    began = collections.Counter(event["clientId"] for event in events if event["eventType"] == "connected")
    reasons = collections.Counter(event.get("disconnectReason") for event in events)
    print(f"       {sum(began.values())} connections; {dict(reasons)}")
    with checks.check("presence: one connection of a client at a time, each with its end, numbers growing"):
        opened, newest = {}, {}
        for event in events:
            client, session, version = event["clientId"], event["sessionIdentifier"], event["versionNumber"]
            if event["eventType"] == "connected":
                expect(client not in opened, f"two connections at once: {event}")
                expect(version > newest.get(client, 0), f"the number does not grow: {event}")
                opened[client], newest[client] = (session, version), version
            else:
                equal(opened.pop(client, None), (session, version), "whose end it is")
        equal(opened, {}, "connections without an end")
    with checks.check("presence: every connection that was welcomed is there"):
        for storm in storms:
            expect(began[storm.client_id] >= storm.welcomed, f"{storm.client_id}: {began} of {storm.welcomed}")
        expect(reasons["SERVER_ERROR"] > 0, "no connection was cut off by a kill")
    with checks.check("wills: said once for each connection that ended without farewell"):
        lost = {
            event["versionNumber"]
            for event in events
            if event["eventType"] == "disconnected" and not event["clientInitiatedDisconnect"]
        }
        said = [row[0] for row in server.sql("SELECT origin FROM ingest_log WHERE topic = 'storm/wills'")]
        equal(len(said), len(set(said)), "wills said twice")
        equal({int(origin.removeprefix("will-")) for origin in said}, lost, "connections whose will was said")
