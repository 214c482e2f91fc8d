"""Topics: rules and AWS documents publish, and webhooks, MQTT clients and queues get what they subscribed to."""

import hashlib
import hmac
import http.server
import json
import threading
import urllib.request

from device import Device
from harness import Server, equal, expect, wait

RULES = """
CREATE SINK alarms WITH (connector = 'notify');
CREATE SINK jobs   WITH (connector = 'queue');
CREATE SINK hook   WITH (connector = 'webhook', url = 'http://127.0.0.1:{port}/plain', allow_private = '127.0.0.1:{port}');
CREATE SINK known  WITH (connector = 'webhook', url = 'http://127.0.0.1:{port}/sns', allow_private = '127.0.0.1:{port}',
                         notification = 'alarms', signing_secret = SECRET('hook_key'));
CREATE RULE hot AS SELECT topic(2) AS sensor, t FROM 'heat/+' WHERE t > 50 INTO alarms;
CREATE RULE to_jobs  AS SELECT * FROM alarms INTO jobs;
CREATE RULE to_hook  AS SELECT * FROM alarms WHERE t > 60 OR isUndefined(t) INTO hook;
CREATE RULE to_known AS SELECT * FROM alarms INTO known;
CREATE RULE to_panel AS SELECT * FROM alarms INTO TOPIC 'panel/alarms' QOS 1;
"""

DOCUMENT = {
    "sql": "SELECT * FROM 'aws/+'",
    "actions": [{"sns": {"targetArn": "arn:aws:sns:eu-west-1:123456789012:alarms", "messageFormat": "JSON", "roleArn": "r"}}],
}


class Receiver:
    """Keeps what is posted, by path."""

    def __init__(self):
        self.posts = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append((self.path, dict(self.headers), body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def of(self, path):
        return [(headers, body) for at, headers, body in self.posts if at == path]


def genuine(headers, body, secret):
    parts = dict(part.split("=", 1) for part in headers["hedgerow-signature"].split(","))
    signed = f'{parts["t"]}.{headers["idempotency-key"]}.'.encode() + body
    return hmac.compare_digest(hmac.new(secret, signed, hashlib.sha256).hexdigest(), parts["v1"])


def run(checks, binary, folder):
    receiver = Receiver()
    with Server(binary, folder, environment={"HEDGEROW_SECRET_HOOK_KEY": "very secret indeed"}) as server:
        server.start()
        rules = folder / "rules"
        rules.mkdir()
        (rules / "rules.sql").write_text(RULES.format(port=receiver.port))
        (rules / "from_aws.json").write_text(json.dumps(DOCUMENT))
        server.cli("rule", "apply", rules)
        panel = Device(server, "panel")
        panel.subscribe("panel/#")
        device = Device(server, "seven")

        def jobs(count):
            got = []
            path = "/queues/jobs/receive"
            ask = lambda: server.request("POST", path, '{"max": 100, "visibility_s": 600}').json()["messages"]
            wait(f"{count} messages", lambda: got.extend(message["body"] for message in ask()) or len(got) >= count)
            return sorted(got)

        with checks.check("notify: each subscriber gets what it asked for"):
            device.publish("heat/7", '{"t": 55}')
            device.publish("heat/7", '{"t": 65}')
            device.publish("heat/7", '{"t": 45}')
            rows = [{"sensor": "7", "t": 55}, {"sensor": "7", "t": 65}]
            equal([json.loads(body) for body in jobs(2)], rows, "in the queue")
            equal([json.loads(text) for text in panel.payloads(2)], rows, "on MQTT")
            wait("the webhook", lambda: receiver.of("/plain"))
            equal([json.loads(body) for _, body in receiver.of("/plain")], rows[1:], "at the webhook")

        with checks.check("notify: a subscriber agrees before it is sent anything"):
            wait("it is asked", lambda: receiver.of("/sns"))
            asked = [json.loads(body) for _, body in receiver.of("/sns")]
            equal([post["Type"] for post in asked], ["SubscriptionConfirmation"], "posts")
            equal(receiver.of("/sns")[0][0]["x-amz-sns-message-type"], "SubscriptionConfirmation", "header")
            with urllib.request.urlopen(asked[0]["SubscribeURL"]) as answer:
                equal(answer.status, 200, "the answer")
            wait("notifications", lambda: len(receiver.of("/sns")) == 3)
            for headers, body in receiver.of("/sns")[1:]:
                post = json.loads(body)
                equal((post["Type"], headers["x-amz-sns-message-type"]), ("Notification", "Notification"), "type")
                equal(post["MessageId"], headers["idempotency-key"], "id")
                expect(post["TopicArn"].endswith(":alarms") and post["Timestamp"].endswith("Z"), f"{post}")
                expect(json.loads(post["Message"])["sensor"] == "7", f"{post}")
                expect(genuine(headers, body, b"very secret indeed"), "the signature")

        with checks.check("notify: an AWS document has a text for each protocol"):
            device.publish("aws/7", json.dumps({"default": "d", "http": "h", "sqs": "q"}))
            equal(jobs(1), ["q"], "the queue")
            equal(panel.payloads(1), ["d"], "MQTT")
            wait("the webhook", lambda: [body for _, body in receiver.of("/plain")][-1] == b"h")

        with checks.check("notify: what was published before kill -9 arrives once in the queue"):
            for n in range(50):
                device.publish("heat/8", json.dumps({"t": 100 + n}))
            server.kill()
            server.start()
            got = [json.loads(body)["t"] for body in jobs(50)]
            equal(sorted(got), list(range(100, 150)), "in the queue")
            left = server.request("POST", "/queues/jobs/receive", '{"max": 100}').json()["messages"]
            equal(left, [], "twice")

        with checks.check("notify: topics that there are not are told"):
            wrong = server.apply("wrong", "CREATE RULE x AS SELECT * FROM alarm INTO TOPIC 'y';", code=1)
            expect("there is no topic alarm" in "".join(wrong), f"{wrong}")
            wrong = server.apply("wrong2", "CREATE SINK t WITH (connector = 'notify', url = 'x');", code=1)
            expect("neither columns nor options" in "".join(wrong), f"{wrong}")
    receiver.http.shutdown()
