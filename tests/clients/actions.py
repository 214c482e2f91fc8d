"""Actions of AWS documents that send something somewhere, to a receiver of our own."""

import http.server
import json
import pathlib
import threading
import urllib.request

import boto3
from device import Device
from harness import Server, equal, expect, wait
from store import Moto

SETTINGS = """
[outside]
allow_private = ["127.0.0.1:{port}"]
max_backoff = "200ms"
[lambdas]
notify = {{ url = "http://127.0.0.1:{port}/lambda", bearer = "pager" }}
failing = {{ url = "http://127.0.0.1:{port}/500/lambda" }}
[grants]
keyed = ["pager"]
"""


class Receiver:
    """Keeps what comes, and answers with the status that the path begins with; confirmations with `confirm`."""

    def __init__(self):
        self.requests, self.confirm = [], 200
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers.items()), body))
                first = self.path.strip("/").split("/")[0]
                status = int(first) if first.isdigit() else 200
                self.send_response(receiver.confirm if "confirmationToken=" in self.path else status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def of(self, beginning):
        """The requests to paths that begin so."""
        return [request for request in self.requests if request[0].startswith(beginning)]


def document(sql, *actions, error=None):
    payload = {"sql": sql, "awsIotSqlVersion": "2016-03-23", "actions": list(actions)}
    if error:
        payload["errorAction"] = error
    return json.dumps(payload)


def apply(server, rules, code=0):
    """Makes the server follow these documents and files, by name."""
    folder = pathlib.Path(server.folder) / "rules"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, text in rules.items():
        (folder / name).write_text(text)
    return server.cli("rule", "apply", folder, code=code)


def destination(server, column, beginning):
    rows = server.sql(f"SELECT {column} FROM system.destinations WHERE name LIKE '{beginning}%'")
    return rows[0][0] if rows else None


def run(checks, binary, folder):
    receiver = Receiver()
    settings = SETTINGS.format(port=receiver.port)
    with Server(binary, folder, settings, {"HEDGEROW_SECRET_PAGER": "hunter2-hunter2"}) as server:
        server.start()
        with Device(server, "sender") as device:
            http_action(checks, server, receiver, device)
            lambda_action(checks, server, receiver, device)
            objects(checks, server, device)
        confirmation(checks, server, receiver)
        with checks.check("actions: no secret is shown, and it stops in order"):
            shown = server.log_text() + json.dumps(server.sql("SELECT * FROM dead_letters"))
            shown += json.dumps(server.sql("SELECT * FROM system.destinations")) + server.request("GET", "/metrics").text
            expect("hunter2" not in shown, "a secret is shown")
            for path, _, _ in receiver.of("/agree/?"):
                expect(path.split("=")[1] not in shown, "a token is shown")
            expect("panicked" not in server.log_text(), server.log_end())
            equal(server.stop(), 0, "exit code")


def http_action(checks, server, receiver, device):
    with checks.check("http: what cannot be done is refused with what to do"):
        for action, said in (
            ({"url": "http://10.0.0.1/in"}, "allow_private"),
            ({"url": "http://${topic(2)}.example.com/"}, "are fixed"),
            ({"url": receiver.url, "auth": {"sigv4": {"signingRegion": "r", "serviceName": "s", "roleArn": "a"}}}, '"auth"'),
            ({"url": receiver.url, "headers": [{"key": "Authorization", "value": "Bearer x"}]}, "get_secret"),
        ):
            _, error = apply(server, {"wrong.json": document("SELECT * FROM 'a'", {"http": action})}, code=1)
            expect(said in error, f"{said!r} is not in {error}")
    with checks.check("http: the row is posted, templates see the message as it came, and values cannot leave their place"):
        action = {
            "url": receiver.url + "/in/${topic(2)}?at=${place}",
            "headers": [{"key": "X-Farm", "value": "n ${a}"}, {"key": "Content-Type", "value": "application/farm"}],
        }
        keyed = {
            "url": receiver.url + "/keyed",
            "headers": [{"key": "Authorization", "value": "${get_secret('pager', 'SecretString', 'role')}"}],
        }
        refused = {"http": {"url": receiver.url + "/404/x"}}
        failing = {"http": {"url": receiver.url + "/500/x"}}
        rules = {
            "told.json": document("SELECT a + 1 AS a FROM 'in/+'", {"http": action}),
            "keyed.json": document("SELECT a FROM 'keyed'", {"http": keyed}),
            "refused.json": document("SELECT a FROM 'refused'", refused),
            "failing.json": document(
                "SELECT a FROM 'failing'", failing, error={"republish": {"topic": "failed/${ruleName}", "qos": 1}}
            ),
        }
        out, _ = apply(server, rules)
        expect(f"http-127.0.0.1-{receiver.port}" in out, f"the sink comes with the documents: {out}")
        device.publish("in/7 8", json.dumps({"a": 1, "place": "../x&y=1"}))
        wait("it is posted", lambda: receiver.of("/in/"))
        path, headers, body = receiver.of("/in/")[0]
        equal(path, "/in/7%208?at=..%2Fx%26y%3D1", "path")
        equal((headers["x-farm"], headers["content-type"]), ("n 1", "application/farm"), "headers")
        equal(json.loads(body), {"a": 2}, "body")
        device.publish("keyed", json.dumps({"a": 1}))
        wait("the secret goes along", lambda: [h.get("authorization") for _, h, _ in receiver.of("/keyed")] == ["hunter2-hunter2"])
    with checks.check("http: a refusal is a dead letter at once, a failure is tried three times and then told"):
        with Device(server, "listener") as listener:
            listener.subscribe("failed/#")
            device.publish("refused", json.dumps({"a": 1}))
            device.publish("failing", json.dumps({"a": 1}))
            told = json.loads(listener.message(60).payload)
        equal([failure["failedAction"] for failure in told["failures"]], ["HttpAction"], "failed actions")
        expect(told["failures"][0]["failedResource"].startswith("http-127.0.0.1"), f"resource: {told}")
        wait("the dead letter", lambda: server.one("SELECT count(*) FROM dead_letters") == 1)
        equal(server.sql("SELECT rule, status, attempts FROM dead_letters"), [["refused", 404, 1]], "dead letters")
        equal((len(receiver.of("/404/")), len(receiver.of("/500/"))), (1, 3), "attempts")
        wait("all is counted", lambda: destination(server, "waiting", "http-127") == 0)
        columns = "connector || ' ' || breaker || ' ' || delivered || ' ' || retried || ' ' || dead"
        equal(destination(server, columns, "http-127"), "webhook closed 2 2 2", "destination")


def lambda_action(checks, server, receiver, device):
    with checks.check("lambda: a function of the settings is handed the row, and called three times at most"):
        arn = "arn:aws:lambda:eu-west-1:123456789012:function:notify:prod"
        gone = {"gone.json": document("SELECT a FROM 'call'", {"lambda": {"functionArn": "gone"}})}
        _, error = apply(server, gone, code=1)
        expect('[lambdas] "gone"' in error, error)
        rules = {
            "call.json": document("SELECT a FROM 'call'", {"lambda": {"functionArn": arn}}),
            "fails.json": document("SELECT a FROM 'call'", {"lambda": {"functionArn": "failing"}}),
        }
        apply(server, rules)
        device.publish("call", json.dumps({"a": 5, "b": 6}))
        wait("it is called", lambda: receiver.of("/lambda"))
        _, headers, body = receiver.of("/lambda")[0]
        wanted = ("Event", "Bearer hunter2-hunter2", {"a": 5})
        equal((headers["x-amz-invocation-type"], headers["authorization"], json.loads(body)), wanted, "call")
        wait("it is given up", lambda: destination(server, "dead", "lambda-failing") == 1)
        equal(len(receiver.of("/500/lambda")), 3, "calls")
        wait("it is through", lambda: destination(server, "delivered", "lambda-notify") == 1)


def objects(checks, server, device):
    with checks.check("s3: a row is an object under its key; a key that leads elsewhere is a dead letter"), Moto() as moto:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{moto.port}",
            region_name="us-east-1",
            aws_access_key_id="hunter2-id",
            aws_secret_access_key="hunter2-hunter2",
        )
        s3.create_bucket(Bucket="farm")
        folder = pathlib.Path(server.folder) / "objects"
        sinks = f"""
            CREATE SINK "farm-objects" WITH (connector = 's3', path = 's3://farm/kept', allow_http = TRUE,
              endpoint = 'http://127.0.0.1:{moto.port}', access_key_id = SECRET('pager'), secret_access_key = SECRET('pager'));
            CREATE SINK here WITH (connector = 's3', path = '{folder}', key = '${{topic(2)}}/${{n}}.json');
            CREATE RULE kept_here AS SELECT n, 'x' AS x FROM 'keep/+' INTO here;
        """
        action = {"s3": {"bucketName": "farm-objects", "key": "${topic(2)}/${name}.json"}}
        rules = {"sinks.sql": sinks, "kept.json": document("SELECT n FROM 'keep/+'", action)}
        before = server.one("SELECT count(*) FROM dead_letters")
        apply(server, rules)
        for n, name in enumerate(("a", "b", "a", "../../c", "")):
            device.publish("keep/7", json.dumps({"n": n, "name": name}))
            wait("it is through", lambda: destination(server, "waiting", "farm-objects") == 0 and destination(server, "delivered + dead", "farm-objects") == n + 1)
        found = s3.list_objects_v2(Bucket="farm")["Contents"]
        equal(sorted(one["Key"] for one in found), ["kept/7/.json", "kept/7/a.json", "kept/7/b.json"], "objects")
        kept = s3.get_object(Bucket="farm", Key="kept/7/a.json")
        equal((kept["Body"].read(), kept["ContentType"]), (b'{"n":2}', "application/json"), "the newest")
        letters = server.sql("SELECT sink, reason FROM dead_letters ORDER BY id")[before:]
        equal(len(letters), 1, "dead letters")
        expect("'..'" in letters[0][1], f"the reason: {letters}")
        wait("all are here", lambda: sorted(path.name for path in folder.rglob("*.json")) == [f"{n}.json" for n in range(5)])
        equal(json.loads((folder / "7" / "3.json").read_text()), {"n": 3, "x": "x"}, "an object here")


def confirmation(checks, server, receiver):
    action = {"http": {"url": receiver.url + "/agree/in", "confirmationUrl": receiver.url + "/agree"}}
    rules = {"agrees.json": document("SELECT n FROM 'agree'", action)}
    name = None
    with checks.check("confirmation: the receiver is asked, rows wait until it has agreed, also through kill -9"):
        receiver.confirm = 503
        apply(server, rules)
        wait("it is asked again", lambda: len(receiver.of("/agree/?")) >= 2)
        receiver.confirm = 200
        wait("it was told", lambda: "not confirmed" in (destination(server, "last_error", "http-127%agree") or ""))
        asked = len(receiver.of("/agree/?"))
        with Device(server, "sender") as device:
            for n in range(3):
                device.publish("agree", json.dumps({"n": n}))
        wait("they wait", lambda: destination(server, "waiting", "http-127%agree") == 3)
        name = destination(server, "name", "http-127%agree")
        equal(destination(server, "confirmation", name), "IN_PROGRESS", "state")
        server.kill()
        server.start()
        wait("they still wait", lambda: destination(server, "waiting", name) == 3)
        equal((len(receiver.of("/agree/?")), receiver.of("/agree/in")), (asked, []), "asked, and sent")
        problems = server.request("GET", "/health", token=None).json()["problems"]
        expect(any(name in problem["component"] for problem in problems), f"health: {problems}")
    with checks.check("confirmation: whoever calls enableUrl has agreed, without the token of the API"):
        path, headers, body = receiver.of("/agree/?")[-1]
        message = json.loads(body)
        equal(headers["x-amz-rules-engine-message-type"], message["messageType"], "type")
        equal(headers["x-amz-rules-engine-destination-arn"], message["arn"], "arn")
        equal(path, f"/agree/?confirmationToken={message['confirmationToken']}", "path")
        wrong = server.request("GET", "/confirmdestination/" + "x" * 43, token=None)
        equal((wrong.status, destination(server, "confirmation", name)), (404, "IN_PROGRESS"), "a wrong token")
        with urllib.request.urlopen(message["enableUrl"]) as answer:
            equal(answer.status, 200, "enableUrl")
        wait("all are sent", lambda: len(receiver.of("/agree/in")) == 3)
        equal(destination(server, "confirmation", name), "ENABLED", "state")
    with checks.check("confirmation: disabled by hand and enabled again, without being asked"):
        out, _ = server.cli("destinations", "disable", name)
        expect("DISABLED" in out, out)
        with Device(server, "sender") as device:
            device.publish("agree", json.dumps({"n": 3}))
        wait("it waits", lambda: destination(server, "waiting", name) == 1)
        equal(server.request("GET", f"/confirmdestination/{message['confirmationToken']}").status, 404, "the old token")
        out, _ = server.cli("destinations", "list")
        expect("DISABLED" in out and name in out, out)
        server.cli("destinations", "enable", name)
        wait("it is sent", lambda: len(receiver.of("/agree/in")) == 4)
        equal(len(receiver.of("/agree/?")), asked, "asked")
        _, error = server.cli("destinations", "disable", "nobody", code=2)
        expect("nobody" in error, error)
