"""The HTTP API as analysts, scrapers and attackers meet it."""

import csv
import io
import json
import math
import re

import pyarrow

from device import Device
from harness import equal, expect, wait

RULES = """
CREATE SINK mixed WITH (connector = 'lake');
CREATE RULE mixed AS SELECT * FROM 'mixed/+' INTO mixed;
CREATE TABLE latest (device VARCHAR, "deviceId" BIGINT, temp DOUBLE, "Temp" DOUBLE, PRIMARY KEY (device));
CREATE RULE latest AS SELECT *, topic(2) AS device FROM 'mixed/+' INTO latest;
"""
ROWS = 100


def run(checks, server):
    server.apply("api", RULES)
    with Device(server) as device:
        device.publish_all(
            (f"mixed/{number}", json.dumps({"deviceId": number, "Name": f'a,"{number}"\né', "temp": 1.5, "Temp": 2.5}))
            for number in range(ROWS)
        )
    wait("all rows", lambda: server.one("SELECT count(*) FROM mixed") == ROWS)
    doors(checks, server)
    forms(checks, server)
    only_reading(checks, server)
    names(checks, server)
    telling(checks, server)


def doors(checks, server):
    paths = [("POST", "/sql"), ("GET", "/metrics"), ("GET", "/rules"), ("GET", "/tables/latest/1"), ("POST", "/rules/apply")]
    with checks.check("HTTP: nothing but health is answered without the token"):
        for method, path in paths:
            for token in (None, "wrong", "", server.token[:-1], server.token + "x"):
                answer = server.request(method, path, "SELECT 1", token=token)
                equal(answer.status, 401, f"{method} {path} with the token {token!r}")
                expect(server.token not in answer.text, "the token is in the answer")
        equal(server.request("GET", "/health", token=None).status, 200, "health")
    with checks.check("HTTP: the token's file is for its owner only"):
        mode = (server.data / "http.token").stat().st_mode & 0o777
        equal(oct(mode), "0o600", "mode")
    with checks.check("HTTP: a Host that is not ours is refused, token or not"):
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", ""):
            for method, path in [*paths, ("GET", "/health")]:
                answer = server.request(method, path, "SELECT 1", Host=host)
                expect(answer.status in (400, 403, 421), f"{method} {path} with Host {host!r}: {answer.status}")
        for host in (server.http, "localhost:1", "localhost"):
            equal(server.request("POST", "/sql", "SELECT 1", Host=host).status, 200, host)
    with checks.check("HTTP: wrong paths, methods and bodies get an error with words"):
        for method, path, body, status in [
            ("GET", "/", None, 404),
            ("GET", "/sql", None, 405),
            ("POST", "/sql", "", 400),
            ("POST", "/sql", '{"sql": 1}', 400),
            ("POST", "/sql", b"\xff", 400),
            ("POST", "/rules/apply", "{}", 400),
            ("POST", "/rules/apply", '{"files": {}}', 400),
            ("POST", "/sql", b" " * (9 << 20), 413),
        ]:
            answer = server.request(method, path, body)
            equal(answer.status, status, f"{method} {path} {str(body)[:40]!r}: {answer.text[:200]}")
            expect(answer.json()["error"], "an error without words")


def forms(checks, server):
    query = 'SELECT "deviceId", "Name", temp, _time FROM mixed ORDER BY 1'
    expected = [[number, f'a,"{number}"\né', 1.5] for number in range(ROWS)]
    with checks.check("POST /sql: JSON"):
        answer = server.request("POST", "/sql", query).json()
        equal([column["name"] for column in answer["columns"]], ["deviceId", "Name", "temp", "_time"], "columns")
        equal([row[:3] for row in answer["rows"]], expected, "rows")
        equal(answer["truncated"], False, "truncated")
    with checks.check("POST /sql: CSV"):
        answer = server.request("POST", "/sql", query, Accept="text/csv")
        expect(answer.headers["Content-Type"].startswith("text/csv"), answer.headers["Content-Type"])
        rows = list(csv.reader(io.StringIO(answer.text, newline="")))
        equal(rows[0], ["deviceId", "Name", "temp", "_time"], "head")
        equal([[float(row[0]), row[1], float(row[2])] for row in rows[1:]], expected, "rows")
    with checks.check("POST /sql: an Arrow stream, read by pyarrow"):
        answer = server.request("POST", "/sql", query, Accept="application/vnd.apache.arrow.stream")
        table = pyarrow.ipc.open_stream(answer.body).read_all()
        equal([list(row.values())[:3] for row in table.to_pylist()], expected, "rows")
        expect(pyarrow.types.is_timestamp(table.schema.field("_time").type), str(table.schema))
        empty = server.request("POST", "/sql", f"SELECT * FROM ({query}) LIMIT 0", Accept="application/vnd.apache.arrow.stream")
        equal(pyarrow.ipc.open_stream(empty.body).read_all().num_rows, 0, "no rows are a stream, too")
    with checks.check("POST /sql: numbers keep their digits, and what is no number is told"):
        row = server.sql("SELECT 9007199254740993, CAST('1.10' AS DECIMAL(10,2)), 0.1, CAST('NaN' AS DOUBLE), NULL")[0]
        equal(row[0], 9007199254740993, "BIGINT")
        equal(str(row[1]) in ("1.10", "1.1"), True, f"DECIMAL: {row[1]!r}")
        expect(row[3] is None or row[3] == "NaN", f"NaN: {row[3]!r}")
    with checks.check("POST /sql: an error has a status, words and a position"):
        for query in ("SELECT", "SELECT nothing FROM mixed", "SELECT * FROM nothing", "SELECT 1; SELECT 2"):
            answer = server.request("POST", "/sql", query)
            equal(answer.status, 400, f"{query}: {answer.text}")
            expect(len(answer.json()["error"]) > 8, answer.text)
        answer = server.request("POST", "/sql", "SELECT *\nFROM mixxed").json()
        equal(answer["position"]["line"], 2, f"line in {answer}")
        expect("mixed" in json.dumps(answer), f"no hint at the right name: {answer}")
    with checks.check("POST /sql: joins and aggregates over lake, table, log and system views"):
        joined = (
            "SELECT count(*), sum(l.temp) FROM mixed m JOIN latest l ON l.deviceid = m.deviceid"
            " JOIN ingest_log i ON i.\"offset\" = m._offset"
        )
        equal(server.sql(joined), [[ROWS, 1.5 * ROWS]], "three relations of one message")
        for view in ("errors", "metrics", "rules", "sessions", "sinks", "tables"):
            server.sql(f"SELECT * FROM system.{view}")
        tables = json.dumps(server.sql("SHOW TABLES"))
        for name in ("mixed", "latest", "ingest_log"):
            expect(name in tables, f"{name} is not in SHOW TABLES")


def only_reading(checks, server):
    with checks.check("POST /sql: only reads"):
        outside = server.folder / "outside.csv"
        outside.write_text("a\n1\n")
        before = sorted(str(path) for path in server.folder.glob("*"))
        for query in [
            "CREATE TABLE t (a INT)",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            f"CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{outside}'",
            "CREATE SCHEMA s",
            "CREATE DATABASE d",
            "CREATE FUNCTION f() RETURNS INT RETURN 1",
            "DROP TABLE latest",
            "DROP TABLE mixed",
            "INSERT INTO latest VALUES ('x')",
            "INSERT INTO mixed SELECT * FROM mixed",
            "UPDATE latest SET device = 'x'",
            "DELETE FROM latest",
            "TRUNCATE TABLE latest",
            f"COPY mixed TO '{server.folder}/stolen.csv'",
            f"COPY (SELECT 1) TO '{server.folder}/stolen.parquet'",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "BEGIN",
            "PREPARE p AS SELECT 1",
            "EXPLAIN ANALYZE INSERT INTO latest VALUES ('x')",
            "SELECT * INTO t FROM mixed",
            f"SELECT * FROM '{outside}'",
            f'SELECT * FROM "{outside}"',
            f"SELECT * FROM read_csv('{outside}')",
            f"SELECT * FROM '{server.data}/http.token'",
            "SELECT * FROM 's3://bucket/x.parquet'",
            "SELECT * FROM 'http://127.0.0.1:1/x.csv'",
        ]:
            answer = server.request("POST", "/sql", query)
            expect(400 <= answer.status < 500, f"{query}: {answer.status} {answer.text[:200]}")
            expect(answer.json()["error"], query)
        equal(sorted(str(path) for path in server.folder.glob("*")), before, "files")
        equal(server.sql("SELECT count(*) FROM latest"), [[ROWS]], "rows afterwards")
        equal(server.sql("SELECT count(*) FROM mixed"), [[ROWS]], "rows afterwards")


def names(checks, server):
    with checks.check("names: a unique one without regard to case, else exactly, else the candidates"):
        total = ROWS * (ROWS - 1) / 2
        for query in ("SELECT sum(deviceid) FROM MIXED", 'SELECT SUM(M.DEVICEID) FROM Mixed m', 'SELECT sum("deviceId") FROM mixed'):
            equal(server.sql(query), [[total]], query)
        answer = server.request("POST", "/sql", 'SELECT "deviceid" FROM mixed')
        equal(answer.status, 400, "a quoted name matches exactly")
        expect("deviceId" in answer.text, answer.text)
        # A lake's columns differ by more than case, since most readers do not tell them apart; the value is not lost.
        equal(server.sql("SELECT sum(temp) FROM mixed"), [[1.5 * ROWS]], "the first of two names")
        rescued = json.loads(server.one("SELECT _rescued FROM mixed LIMIT 1"))
        equal(rescued, {"Temp": 2.5}, "the second one")
        row = json.loads(server.request("GET", "/tables/latest/1").body)
        equal((row["temp"], row["Temp"]), (1.5, 2.5), "a table keeps both")
        answer = server.request("POST", "/sql", "SELECT TEMP FROM latest")
        equal(answer.status, 400, f"an ambiguous name: {answer.text[:200]}")
        expect('"temp"' in answer.json()["error"] + str(answer.json().get("hint")), answer.text)


SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$')


def telling(checks, server):
    with checks.check("/health is ready, and says so in JSON"):
        answer = server.request("GET", "/health", token=None)
        equal((answer.status, answer.json()), (200, {"status": "ready", "problems": []}), "health")
    with checks.check("/metrics is Prometheus text"):
        answer = server.request("GET", "/metrics")
        expect(answer.headers["Content-Type"].startswith("text/plain; version=0.0.4"), answer.headers["Content-Type"])
        kinds, seen, values = {}, set(), {}
        for line in answer.text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                expect(name not in kinds, f"TYPE of {name} twice")
                expect(kind in ("counter", "gauge", "histogram", "summary"), line)
                kinds[name] = kind
            elif not line.startswith("# HELP "):
                found = SAMPLE.match(line)
                expect(found, f"no sample: {line!r}")
                name, labels, value = found[1], found[3] or "", float(found[4])
                expect((name, labels) not in seen, f"twice: {line}")
                seen.add((name, labels))
                family = re.sub(r"_(bucket|sum|count)$", "", name)
                expect(name in kinds or family in kinds, f"no TYPE before {line}")
                expect(not math.isnan(value) and (kinds.get(name) != "counter" or value >= 0), line)
                values[name, labels] = value
        equal(values["hedgerow_rule_matched_total", 'rule="mixed"'], ROWS, "messages matched")
        expect(len(kinds) > 40, f"only {len(kinds)} metrics")
