"""A lake in an object store: moto, behind a proxy that can be taken away.

`HEDGEROW_TEST_OUTAGE` says for how many seconds it fails (5); the promise is about minutes.
"""

import json
import os
import pathlib
import re
import selectors
import socket
import subprocess
import sys
import threading
import time

import boto3
import deltalake

from device import Device
from harness import Failed, Server, equal, expect, wait

KEY_ID = "AKIAHEDGEROWTESTKEYID"
SECRET = "hedgerow-test-secret-that-nobody-may-see"
SESSION = "hedgerow-test-session-token-that-nobody-may-see"
SETTINGS = """
[lake]
roll_age = "1s"
attempt_timeout = "10s"
max_backoff = "1s"
[secrets]
key = {{ env = "FARM_KEY" }}
session = {{ file = "{session}" }}
"""
RULES = """
CREATE SINK remote WITH (
  connector = 'lake', path = 's3://farm/lakes/remote', endpoint = '{endpoint}', region = 'eu-central-1', allow_http = TRUE,
  access_key_id = SECRET('key'), secret_access_key = SECRET('unlisted'), session_token = SECRET('session')
);
CREATE TABLE last (device VARCHAR, n BIGINT, PRIMARY KEY (device));
CREATE RULE remote AS SELECT *, topic(2) AS device FROM 'remote/+' INTO remote;
CREATE RULE last AS SELECT n, topic(2) AS device FROM 'remote/+' INTO last;
CREATE RULE copy AS SELECT n FROM 'remote/+' INTO TOPIC 'copy/${{topic(2)}}' QOS 1;
"""

# Rows of `latencies` are not counted by the other checks.
NO_PROBE = "device NOT LIKE 'probe-%'"


class Moto:
    """A `moto_server` on a free port."""

    def __enter__(self):
        command = [str(pathlib.Path(sys.executable).parent / "moto_server"), "-H", "127.0.0.1", "-p", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                # Read on, so that it never waits for its log.
                threading.Thread(target=self.process.stderr.read, daemon=True).start()
                return self
        raise Failed(f"moto_server ended with {self.process.wait()}")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Proxy:
    """A TCP proxy to a port. While it is away, connections are closed at once."""

    def __init__(self, port):
        self.target = port
        self.away = False
        self.pairs = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            if self.away:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            self.pairs.append((client, server))
            threading.Thread(target=self._carry, args=(client, server), daemon=True).start()

    @staticmethod
    def _carry(client, server):
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            try:
                while True:
                    for key, _ in ready.select():
                        data = key.fileobj.recv(65536)
                        if not data:
                            return
                        key.data.sendall(data)
            except OSError:
                return
            finally:
                client.close()
                server.close()

    def leave(self):
        """Breaks every connection and takes none."""
        self.away = True
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # closed by its thread

    def come_back(self):
        self.away = False


def run(checks, binary, folder):
    folder.mkdir(parents=True, exist_ok=True)
    session = folder / "session"
    session.write_text(SESSION + "\n")
    environment = {"FARM_KEY": KEY_ID, "HEDGEROW_SECRET_UNLISTED": SECRET}
    with checks.check("S3: the store and the server start, and stop"), Moto() as moto:
        proxy = Proxy(moto.port)
        direct = f"http://127.0.0.1:{moto.port}"
        access = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET, "region_name": "eu-central-1"}
        s3 = boto3.client("s3", endpoint_url=direct, **access)
        s3.create_bucket(Bucket="farm", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        options = {
            "AWS_ENDPOINT_URL": direct,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "eu-central-1",
        }

        def remote(column):
            url = "s3://farm/lakes/remote"
            if not deltalake.DeltaTable.is_deltatable(url, options):
                return []
            table = deltalake.DeltaTable(url, storage_options=options).to_pyarrow_table()
            if column not in table.schema.names:
                return []
            probes = [device.startswith("probe-") for device in table.column("device").to_pylist()]
            values = zip(table.column(column).to_pylist(), probes)
            return sorted(value for value, probe in values if not probe or column == "device")

        with Server(binary, folder / "server", SETTINGS.format(session=session), environment) as server:
            server.start()
            server.apply("store", RULES.format(endpoint=f"http://127.0.0.1:{proxy.port}"))
            used(checks, server, remote)
            lost(checks, server, proxy, remote)
            undisturbed(checks, server, proxy, remote)
            restarted(checks, server, proxy, remote)
            refused(checks, server, direct)
            secrets(checks, server)
            equal(server.stop(), 0, "exit code")
            secrets(checks, server, stopped=True)
            gone(checks, server, remote)


def publish(server, first, last):
    with Device(server) as device:
        device.publish_all((f"remote/{number % 5}", json.dumps({"n": number})) for number in range(first, last))


def used(checks, server, remote):
    with checks.check("S3: rows arrive, and deltalake reads what SQL reads"):
        publish(server, 0, 500)
        wait("all rows, by SQL", lambda: server.one("SELECT count(*) FROM remote") == 500)
        wait("all rows, by deltalake", lambda: len(remote("n")) == 500, 40)
        equal(remote("n"), list(range(500)), "values")
        equal(server.sql("SELECT count(*), sum(n), count(DISTINCT device) FROM remote"), [[500, 124750, 5]], "SQL")


def lost(checks, server, proxy, remote):
    with checks.check("S3: while the store is away, publishes, tables and topics go on, and health says what is wrong"):
        proxy.leave()
        with Device(server) as listener:
            listener.subscribe("copy/#")
            publish(server, 500, 800)
            heard = sorted(json.loads(payload)["n"] for payload in listener.payloads(300))
            equal(heard, list(range(500, 800)), "republished")
        wait("the table", lambda: server.one("SELECT max(n) FROM last") == 799)
        wait("the sink's trouble in health", lambda: server.request("GET", "/health").json()["status"] == "degraded", 30)
        health = server.request("GET", "/health")
        equal(health.status, 200, "messages are taken, so load balancers stay")
        expect("sink remote" in health.text and "127.0.0.1" in health.text, health.text)
        expect(len(remote("n")) == 500, "rows came to a store that was away")
    with checks.check("S3: when the store is back, nothing is lost and nothing is double"):
        proxy.come_back()
        wait("all rows, by deltalake", lambda: len(remote("n")) >= 800, 40)
        publish(server, 800, 900)
        wait("the next rows, by deltalake", lambda: len(remote("n")) >= 900, 40)
        equal(remote("n"), list(range(900)), "values")
        equal(server.sql("SELECT count(*), sum(n) FROM remote"), [[900, 404550]], "SQL")
        wait("health", lambda: server.request("GET", "/health").json()["status"] == "ready")


def undisturbed(checks, server, proxy, remote):
    outage = float(os.environ.get("HEDGEROW_TEST_OUTAGE", "5"))
    with checks.check(f"S3: {outage:.0f} s of failures double no latency of tables and topics"):
        usual = latencies(server, "usual", 5)
        proxy.leave()
        failing = latencies(server, "failing", outage)
        proxy.come_back()
        for what in usual:
            (usual_p50, usual_p99), (p50, p99) = usual[what], failing[what]
            figures = f"p50 {usual_p50:.1f} and {p50:.1f} ms, p99 {usual_p99:.1f} and {p99:.1f} ms"
            print(f"       {what}: store there and failing: {figures}")
            # Of a few seconds, a machine that is busy with other things decides the p99.
            expect(p50 < 2 * usual_p50 + 2, f"{what}: {figures}")
            expect(p99 < 2 * usual_p99 + 50, f"{what}: {figures}")
        sent = server.one("SELECT count(*) FROM ingest_log WHERE topic LIKE 'remote/probe-%'")
        wait("all probes, by deltalake", lambda: sum("probe" in name for name in remote("device")) == sent, 60)


def latencies(server, name, seconds):
    """Milliseconds from a publish to its copy on a topic and to its row in a table: p50 and p99."""
    taken = {"topic": [], "table": []}
    end = time.monotonic() + seconds
    device = f"probe-{name}"
    with Device(server) as listener, Device(server) as writer:
        listener.subscribe(f"copy/{device}")
        number = 0
        while time.monotonic() < end:
            number += 1
            sent = time.monotonic()
            writer.send(f"remote/{device}", json.dumps({"n": number}))
            equal(json.loads(listener.message().payload)["n"], number, "copy")
            taken["topic"].append(time.monotonic() - sent)
            while server.request("GET", f"/tables/last/{device}").json().get("n") != number:
                pass
            taken["table"].append(time.monotonic() - sent)
    percentile = lambda all, part: 1000 * sorted(all)[min(len(all) - 1, int(len(all) * part))]
    return {what: (percentile(all, 0.5), percentile(all, 0.99)) for what, all in taken.items()}


def restarted(checks, server, proxy, remote):
    with checks.check("S3: kill -9 and a start while the store is away lose nothing"):
        proxy.leave()
        publish(server, 900, 1000)
        server.kill()
        server.start()
        publish(server, 1000, 1100)
        equal(server.one(f"SELECT max(n) FROM last WHERE {NO_PROBE}"), 1099, "the table goes on")
        answer = server.request("POST", "/sql", "SELECT count(*) FROM remote")
        expect(answer.status == 503, f"a count without the committed rows: {answer.status} {answer.text}")
        proxy.come_back()
        wait("all rows, by deltalake", lambda: len(remote("n")) >= 1100, 40)
        equal(remote("n"), list(range(1100)), "values")
        equal(server.sql(f"SELECT count(*), sum(n) FROM remote WHERE {NO_PROBE}"), [[1100, 604450]], "SQL")


def refused(checks, server, direct):
    with checks.check("S3: a missing secret, a credential in the file, and a wrong bucket are told"):
        sink = "CREATE SINK other WITH (connector = 'lake', path = 's3://{}/x', endpoint = '{}', allow_http = TRUE, {});"
        rules = server.folder / "wrong"
        rules.mkdir()
        own = (server.folder / "rules-store" / "store.sql").read_text()
        for options, said in [
            (f"access_key_id = '{KEY_ID}', secret_access_key = SECRET('unlisted')", "SECRET("),
            ("access_key_id = SECRET('nowhere'), secret_access_key = SECRET('unlisted')", "HEDGEROW_SECRET_NOWHERE"),
            ("acess_key_id = SECRET('key')", "access_key_id"),
        ]:
            (rules / "wrong.sql").write_text(own + sink.format("farm", direct, options))
            _, err = server.cli("rule", "apply", rules, code=1)
            expect(said in err and SECRET not in err, f"{options}: {err}")
        keys = "access_key_id = SECRET('key'), secret_access_key = SECRET('unlisted')"
        rule = "CREATE RULE other AS SELECT * FROM 'other' INTO other;"
        (rules / "wrong.sql").write_text(own + sink.format("no-such-bucket", direct, keys) + rule)
        server.cli("rule", "apply", rules)
        wait("the bucket in health", lambda: "no-such-bucket" in server.request("GET", "/health").text)
        (rules / "wrong.sql").write_text(own + "DROP SINK other;")
        server.cli("rule", "apply", rules)
        server.cli("rule", "apply", server.folder / "rules-store")
        wait("health without it", lambda: server.request("GET", "/health").json()["status"] == "ready")


def gone(checks, server, remote):
    with checks.check("S3: without its secret nothing starts, so that no row passes the sink by"):
        without = {**server.environment}
        key = without.pop("FARM_KEY")
        server.environment = without
        for attempt in (lambda: server.start(), lambda: server.cli("query", "SELECT 1", code=0)):
            try:
                attempt()
            except Failed as error:
                expect("FARM_KEY" in str(error), str(error))
            else:
                raise Failed("it started")
        server.environment = {**without, "FARM_KEY": key}
        server.start()
        publish(server, 1100, 1200)
        wait("all rows, by deltalake", lambda: len(remote("n")) >= 1200, 40)
        equal(remote("n"), list(range(1200)), "values")
        equal(server.stop(), 0, "exit code")


def secrets(checks, server, stopped=False):
    """Neither in what it says nor in what it keeps."""

    def clean(where, content):
        content = content if isinstance(content, bytes) else content.encode()
        for name, secret in (("secret key", SECRET), ("key id", KEY_ID), ("session token", SESSION)):
            expect(secret.encode() not in content, f"the {name} is in {where}")

    if stopped:
        with checks.check("S3: no secret is in the server's log or in any of its files"):
            clean("the log", server.log_text())
            files = [path for path in server.data.rglob("*") if path.is_file()]
            expect(len(files) > 5, "no files?")
            for path in files:
                clean(path, path.read_bytes())
        return
    with checks.check("S3: no secret is in metrics, health, rules, system views and the ingest log"):
        clean("/metrics", server.request("GET", "/metrics").body)
        clean("/health", server.request("GET", "/health").body)
        clean("/rules", server.request("GET", "/rules").body)
        for view in ("errors", "metrics", "rules", "sessions", "sinks", "tables"):
            clean(f"system.{view}", json.dumps(server.sql(f"SELECT * FROM system.{view}")))
        clean("ingest_log", json.dumps(server.sql("SELECT * FROM ingest_log WHERE kind <> 'message'")))
        clean("log inspect", server.cli("log", "inspect", "--records", "--json")[0])
