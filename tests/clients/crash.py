"""kill -9 under load from paho: what was acknowledged is in the lake, and what is in the log is there once."""

import collections
import json
import threading

import deltalake

from device import V5, Device
from harness import Failed, Server, equal, expect, wait

SETTINGS = '[lake]\nroll_age = "1s"\n[engine]\ncheckpoint_interval = "1s"\n'
RULES = """
CREATE SINK kept WITH (connector = 'lake');
CREATE TABLE counted (device VARCHAR, n BIGINT, PRIMARY KEY (device, n));
CREATE RULE keep AS SELECT *, topic(2) AS device FROM 'crash/+' INTO kept, counted;
CREATE RULE copy AS SELECT n, topic(2) AS device FROM 'crash/+' INTO TOPIC 'copied/${topic(2)}' QOS 1;
CREATE SINK copies WITH (connector = 'lake');
CREATE RULE copied AS SELECT * FROM 'copied/+' INTO copies;
"""
CRASHES = 3
DEVICES = 2
# Messages that must be acknowledged between two crashes.
BETWEEN = 400
QOS = (1, 2)


class Load(threading.Thread):
    """Publishes numbers until told to stop; a number whose acknowledgement is lost with the connection is not repeated."""

    def __init__(self, server, device):
        super().__init__(daemon=True)
        self.server = server
        self.device = device
        self.acknowledged = []
        self.sent = 0
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            try:
                client = Device(self.server, f"crash-{self.device}", version=V5)
            except (OSError, Failed):
                self.stopped.wait(0.05)
                continue
            self.publish(client)
            client.client.loop_stop()

    def publish(self, client):
        mids = collections.deque()
        while not self.stopped.is_set() and client.disconnected.empty():
            while len(mids) < 50:
                payload = json.dumps({"n": self.sent})
                mids.append((client.send(f"crash/{self.device}", payload, QOS[self.device % len(QOS)]), self.sent))
                self.sent += 1
            self.collect(client, mids, len(mids) - 25)
        self.collect(client, mids, len(mids))

    def collect(self, client, mids, count):
        for _ in range(count):
            mid, number = mids.popleft()
            with client.waiting:
                there = lambda: mid in client.acknowledged or not client.disconnected.empty()
                while not client.waiting.wait_for(there, 0.2):
                    pass
                if mid in client.acknowledged:
                    self.acknowledged.append(number)


def run(checks, binary, folder):
    with Server(binary, folder, SETTINGS) as server:
        loads = []
        with checks.check(f"kill -9: {CRASHES} times under load, and it starts again each time"):
            server.start()
            server.apply("crash", RULES)
            loads = [Load(server, device) for device in range(DEVICES)]
            for load in loads:
                load.start()
            for _ in range(CRASHES):
                before = [len(load.acknowledged) for load in loads]
                more = lambda: all(len(load.acknowledged) >= old + BETWEEN for load, old in zip(loads, before))
                wait("more acknowledged messages of each device", more, 60)
                server.kill()
                server.start()
            before = [len(load.acknowledged) for load in loads]
            wait("more acknowledged messages after the last start", more, 60)
        for load in loads:
            load.stopped.set()
        for load in loads:
            load.join(60)
        if server.process is None or server.process.poll() is not None:
            return
        judge(checks, server, loads)


def judge(checks, server, loads):
    def lake(name):
        table = deltalake.DeltaTable(str(server.data / "lake" / name)).to_pyarrow_table()
        return collections.Counter(zip(table.column("device").to_pylist(), map(int, table.column("n").to_pylist())))

    def logged(topic):
        rows = server.sql(f"SELECT topic, payload_text FROM ingest_log WHERE kind = 'message' AND topic LIKE '{topic}/%'")
        return collections.Counter((row[0].split("/")[1], int(json.loads(row[1])["n"])) for row in rows)

    acknowledged = {(str(load.device), number) for load in loads for number in load.acknowledged}
    print(f"       {len(acknowledged)} acknowledged of {sum(load.sent for load in loads)} sent")
    messages = logged("crash")
    with checks.check("kill -9: what was acknowledged is in the log"):
        missing = acknowledged - set(messages)
        expect(not missing, f"{len(missing)} acknowledged messages are not, e.g. {sorted(missing)[:5]}")
    with checks.check("kill -9: every logged message is in the lake once, by deltalake"):
        wait("as many rows", lambda: lake("kept").total() >= messages.total(), 40)
        rows = lake("kept")
        equal(rows - messages, collections.Counter(), "doubled or foreign rows")
        equal(messages - rows, collections.Counter(), "missing rows")
    with checks.check("kill -9: every logged message is republished once, and that is in the lake once"):
        wait("as many copies", lambda: logged("copied").total() >= messages.total(), 40)
        equal(logged("copied"), messages, "copies in the log")
        wait("as many rows", lambda: lake("copies").total() >= messages.total(), 40)
        equal(lake("copies"), messages, "copies in the lake")
    with checks.check("kill -9: the table has every message"):
        rows = {(row[0], row[1]) for row in server.sql("SELECT device, n FROM counted")}
        equal(rows, set(messages), "rows")
