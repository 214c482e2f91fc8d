"""Rules that ask other systems: a receiver of our own that is slow, broken or gone, and what the others notice of it."""

import http.server
import json
import threading
import time

from device import Device
from harness import Server, equal, expect, wait

SETTINGS = """
[calls]
timeout = "500ms"
concurrency = 4
rest_after = 30
rest = "1s"
[outside]
allow_private = ["127.0.0.1:{port}"]
[lambdas]
slow = {{ url = "http://127.0.0.1:{port}/slow" }}
double = {{ url = "http://127.0.0.1:{port}/double" }}
broken = {{ url = "http://127.0.0.1:{port}/broken" }}
silent = {{ url = "http://127.0.0.1:{port}/silent" }}
kept = {{ url = "http://127.0.0.1:{port}/double", cache_age = "1h", bearer = "key" }}
[predictors]
wear = {{ url = "http://127.0.0.1:{port}/predict" }}
[grants]
whisper = ["key"]
"""

RULES = """
CREATE TABLE plain  (n BIGINT, PRIMARY KEY (n));
CREATE TABLE answer (rule VARCHAR, n BIGINT, PRIMARY KEY (rule, n));
CREATE TABLE room   (id VARCHAR, PRIMARY KEY (id));
CREATE SINK  both WITH (connector = 'lake');
CREATE RULE straight AS SELECT n FROM 'ask/#' INTO plain;
CREATE RULE aloud AS SELECT n FROM 'ask/#' INTO TOPIC 'heard/straight';
CREATE RULE asks_slow AS SELECT 'slow' AS rule, n, aws_lambda('slow', n) AS r FROM 'ask/slow' INTO answer, both,
  TOPIC 'heard/slow';
CREATE RULE asks_double AS SELECT 'double' AS rule, n,
  aws_lambda('arn:aws:lambda:eu-west-1:123456789012:function:double', {'n': n}).twice AS r FROM 'ask/double' INTO answer;
CREATE RULE asks_broken AS SELECT 'broken' AS rule, n, aws_lambda('broken', n) AS r FROM 'ask/broken' INTO answer;
CREATE RULE asks_broken_or AS SELECT 'broken_or' AS rule, n, get_or_default(aws_lambda('broken', n), 'none') AS r
  FROM 'ask/broken' INTO answer;
CREATE RULE asks_silent AS SELECT 'silent' AS rule, n, aws_lambda('silent', n) AS r FROM 'ask/silent' INTO answer;
CREATE RULE asks_kept AS SELECT 'kept' AS rule, n, aws_lambda('kept', {'n': n % 2}) AS r FROM 'ask/kept' INTO answer;
CREATE RULE predicts AS SELECT 'wear' AS rule, n, machinelearning_predict('wear', 'role', *).predictedLabel AS r
  FROM 'ask/wear' INTO answer;
CREATE RULE remember AS SELECT topic(2) AS id, name FROM 'room/+' INTO room;
CREATE RULE look AS SELECT 'look' AS rule, n, get_dynamodb('room', 'id', room, 'role').name AS r FROM 'look/#' INTO answer;
CREATE RULE whisper AS SELECT 'whisper' AS rule, n, length(get_secret('key', 'SecretString', 'role')) AS r
  FROM 'ask/whisper' INTO answer;
"""


class Receiver:
    """Counts requests by path, how many there were at once, and holds `/silent` back until it is told."""

    def __init__(self):
        self.count, self.most, self.now, self.bearers, self.records = {}, {}, {}, [], []
        self.lock = threading.Lock()
        self.open = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                receiver.answer(self)

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                pass  # a client that has given up

        self.http = Threads(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        path = request.path.strip("/")
        asked = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        with self.lock:
            self.count[path] = self.count.get(path, 0) + 1
            self.now[path] = self.now.get(path, 0) + 1
            self.most[path] = max(self.most.get(path, 0), self.now[path])
        status, body = 200, asked
        if path == "slow":
            time.sleep(0.1)
        elif path == "broken":
            status, body = 500, {"message": "no"}
        elif path == "silent":
            self.open.wait(10)
        elif path == "double":
            self.bearers.append(request.headers.get("Authorization"))
            body = {"twice": 2 * asked["n"]}
        elif path == "predict":
            self.records.append(asked)
            body = {"predictedLabel": "worn", "predictedScores": {"worn": 0.9}}
        with self.lock:
            self.now[path] -= 1
        answer = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)


def answers(server, rule):
    """What a rule has written: by number."""
    rows = server.sql(f"SELECT * FROM answer WHERE rule = '{rule}'")
    names = server.request("POST", "/sql", json.dumps({"sql": "SELECT * FROM answer LIMIT 0"})).json()["columns"]
    names = [column["name"] if isinstance(column, dict) else column for column in names]
    rows = [dict(zip(names, row)) for row in rows]
    for row in rows:
        row.update(json.loads(row.pop("_rest", None) or "{}"))
    return {row["n"]: row.get("r") for row in rows}


def outcome(server, rule):
    passed, failed, error = server.sql(f"SELECT passed, failed, last_error FROM system.rules WHERE name = '{rule}'")[0]
    return passed, failed, error


def run(checks, binary, folder):
    receiver = Receiver()
    settings = SETTINGS.format(port=receiver.port)
    with Server(binary, folder, settings, {"HEDGEROW_SECRET_KEY": "hunter2-hunter2"}) as server:
        server.start()
        with checks.check("calls: rules that ask others are applied; what the settings do not have is refused by name"):
            server.apply("calls", RULES)
            for text, said in (
                ("aws_lambda('nowhere', n)", '[lambdas] "nowhere" = { url ='),
                ("machinelearning_predict('nobody', 'role', *)", '[predictors] "nobody" = { url ='),
                ("get_secret('key', 'SecretString', 'role')", '[grants] wrong = ["key"]'),
                ("get_dynamodb('rooms', 'id', n, 'role')", "`room`"),
                ("get_thing_shadow('t', 'role')", "not available in this version"),
            ):
                rules = RULES + f"CREATE RULE wrong AS SELECT {text} AS n FROM 'a' INTO plain;"
                _, error = server.apply("wrong", rules, code=1)
                expect(said in error, f"{said!r} is not in {error}")
        with Device(server, "asker") as device, Device(server, "listener") as listener:
            listener.subscribe("heard/#")
            ask(checks, server, receiver, device)
            others_do_not_wait(checks, server, receiver, device, listener)
        with checks.check("calls: no secret is in the log of the server, in system views or in the catalog"):
            shown = server.log_text() + json.dumps(server.sql("SELECT * FROM system.rules"))
            shown += json.dumps(server.sql("SELECT * FROM system.errors")) + server.request("GET", "/metrics").text
            expect("hunter2" not in shown, "a secret is shown")
            expect("panicked" not in server.log_text(), server.log_end())
        with checks.check("calls: it stops in order"):
            equal(server.stop(), 0, "exit code")


def ask(checks, server, receiver, device):
    with checks.check("calls: a function by its ARN, a model, a secret"):
        for n in range(20):
            device.publish("ask/double", json.dumps({"n": n}))
            device.publish("ask/wear", json.dumps({"n": n, "at": {"x": 1}}))
        device.publish("ask/whisper", json.dumps({"n": 1}))
        wait("all doubled", lambda: answers(server, "double") == {n: 2 * n for n in range(20)})
        wait("all predicted", lambda: answers(server, "wear") == {n: "worn" for n in range(20)})
        expect({"n": 0, "at": '{"x":1}'} in receiver.records, f"the record is flat: {receiver.records[:2]}")
        wait("the secret is read", lambda: answers(server, "whisper") == {1: len("hunter2-hunter2")})
    with checks.check("calls: an answer that is good is not asked for again, and the secret goes along"):
        receiver.bearers.clear()
        for n in range(30):
            device.publish("ask/kept", json.dumps({"n": n}))
            if n < 2:
                wait("answered", lambda: len(answers(server, "kept")) == n + 1)
        wait("all answered", lambda: len(answers(server, "kept")) == 30)
        equal(receiver.bearers, ["Bearer hunter2-hunter2"] * 2, "calls")
        line = 'hedgerow_calls_total{kind="lambdas",name="kept",outcome="cached"} 28'
        expect(line in server.request("GET", "/metrics").text, "the metric says so")
    with checks.check("calls: HTTP 500 is a failure, counted and sampled, unless there is a default"):
        for n in range(10):
            device.publish("ask/broken", json.dumps({"n": n}))
        wait("the failures are counted", lambda: outcome(server, "asks_broken")[1] == 10)
        equal(outcome(server, "asks_broken"), (0, 10, "aws_lambda() failed: broken: it answered with HTTP 500"), "outcome")
        wait("the default", lambda: answers(server, "broken_or") == {n: "none" for n in range(10)})
        equal(server.one("SELECT count(*) FROM system.errors WHERE rule = 'asks_broken'"), 10, "samples")
    with checks.check("calls: no more at once than the destination takes, and each row once"):
        device.publish_all([("ask/slow", json.dumps({"n": n})) for n in range(100)])
        wait("all slow answers", lambda: len(answers(server, "slow")) == 100)
        equal((receiver.count["slow"], receiver.most["slow"]), (100, 4), "calls, and the most at once")
        wait("all in the lake", lambda: server.one("SELECT count(*) FROM both") == 100)
    with checks.check("calls: a lookup sees what was written before, and nothing where nothing is"):
        device.publish("room/1", json.dumps({"name": "attic"}))
        device.publish("look/a", json.dumps({"n": 1, "room": "1"}))
        device.publish("look/a", json.dumps({"n": 2, "room": "2"}))
        device.publish("room/1", json.dumps({"name": "cellar"}))
        device.publish("look/a", json.dumps({"n": 3, "room": "1"}))
        wait("all looked up", lambda: len(answers(server, "look")) == 3)
        equal(answers(server, "look"), {1: "attic", 2: None, 3: "cellar"}, "names")


def others_do_not_wait(checks, server, receiver, device, listener):
    with checks.check("calls: while one destination is silent, other rules' rows come at once"):
        before = server.one("SELECT count(*) FROM plain")
        for _ in range(before + 100):  # what was heard so far
            try:
                listener.message(seconds=0.5)
            except Exception:
                break
        device.publish_all([("ask/silent", json.dumps({"n": 100_000 + n})) for n in range(12)])
        wait("they are being asked", lambda: receiver.now.get("silent", 0) == 4)
        begun = time.monotonic()
        device.publish("ask/straight", json.dumps({"n": 200_000}))
        wait("the row is in the table", lambda: server.sql("SELECT n FROM plain WHERE n = 200000"))
        taken = time.monotonic() - begun
        equal(answers(server, "silent"), {}, "nothing is answered")
        numbers = []
        while 200_000 not in numbers:
            numbers.append(json.loads(listener.message().payload)["n"])
        expect(taken < 1.0, f"it took {taken:.1f} s")
        waiting = server.one("SELECT value FROM system.metrics WHERE name = 'hedgerow_engine_calls_waiting'")
        expect(waiting > 0, "they still wait")
    with checks.check("calls: what is not answered in time is a failure, and the next ones are not asked for a while"):
        wait("they fail", lambda: outcome(server, "asks_silent")[1] == 12)
        expect("no answer of silent within 500ms" in outcome(server, "asks_silent")[2], outcome(server, "asks_silent"))
        device.publish_all([("ask/silent", json.dumps({"n": 300_000 + n})) for n in range(40)])
        wait("all fail", lambda: outcome(server, "asks_silent")[1] == 52, seconds=40)
        rested = "SELECT value FROM system.metrics WHERE name = 'hedgerow_calls_total' AND labels LIKE '%silent%refused%'"
        expect(server.one(rested) > 0, "it got a rest")
    with checks.check("calls: it is asked again once it answers"):
        receiver.open.set()
        for attempt in range(100):
            device.publish("ask/silent", json.dumps({"n": 400_000 + attempt}))
            if answers(server, "silent"):
                break
            time.sleep(0.1)
        expect(answers(server, "silent"), "no answer after 10 s")
