"""Message queues over HTTP: rules and AWS documents write, consumers that are slow, die or lie fetch."""

import base64
import json
import threading
import time

from device import Device
from harness import Server, equal, expect, wait

RULES = """
CREATE SINK jobs WITH (connector = 'queue', visibility = INTERVAL '2 seconds', max_receives = 2,
  dead_letter_queue = 'failed');
CREATE SINK failed WITH (connector = 'queue');
CREATE SINK later WITH (connector = 'queue', delay = INTERVAL '3 seconds');
CREATE SINK "plain-queue" WITH (connector = 'queue', max_in_flight = 2);
CREATE RULE work AS SELECT n, topic(2) AS device FROM 'jobs/+' INTO jobs;
CREATE RULE wait AS SELECT n FROM 'later/+' INTO later;
"""

DOCUMENT = {
    "ruleName": "from_aws",
    "topicRulePayload": {
        "sql": "SELECT n FROM 'aws/+'",
        "actions": [
            {"sqs": {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/plain-queue", "roleArn": "r"}},
            {"sqs": {"queueUrl": "https://sqs.eu-west-1.amazonaws.com/123456789012/plain-queue", "useBase64": True}},
        ],
    },
}


class Queue:
    """One queue of a server."""

    def __init__(self, server, name):
        self.server, self.name = server, name

    def call(self, what, body=None, status=200):
        answer = self.server.request("POST", f"/queues/{self.name}/{what}", json.dumps(body) if body else None)
        expect(answer.status == status, f"{self.name}/{what} {body}: {answer.status} {answer.text}")
        return answer.json()

    def receive(self, most=10, wait_s=0, **more):
        return self.call("receive", {"max": most, "wait_s": wait_s, **more})["messages"]

    def delete(self, *messages):
        return self.call("delete", {"receipts": [message["receipt"] for message in messages]})

    def collect(self, count):
        """Receives and keeps until there are so many."""
        got = []
        wait(f"{count} messages in {self.name}", lambda: got.extend(self.receive(100, visibility_s=600)) or len(got) >= count)
        return got

    def length(self, which="visible"):
        return self.server.one(f"SELECT {which} FROM system.queues WHERE name = '{self.name}'")


def run(checks, binary, folder):
    with Server(binary, folder) as server:
        server.start()
        rules = folder / "rules"
        rules.mkdir()
        (rules / "rules.sql").write_text(RULES)
        (rules / "from_aws.json").write_text(json.dumps(DOCUMENT))
        server.cli("rule", "apply", rules)
        jobs, failed, later, plain = (Queue(server, name) for name in ("jobs", "failed", "later", "plain-queue"))
        device = Device(server, "seven")

        with checks.check("queues: a row is received once, comes back, and is given up"):
            device.publish("jobs/7", '{"n": 1}')
            first = jobs.receive(wait_s=20)
            equal([json.loads(message["body"]) for message in first], [{"n": 1, "device": "7"}], "messages")
            equal((first[0]["rule"], first[0]["topic"], first[0]["client_id"]), ("work", "jobs/7", "seven"), "origin")
            equal(jobs.receive(), [], "while it is hidden")
            begun = time.monotonic()
            second = jobs.receive(wait_s=20)
            expect(time.monotonic() - begun < 15, "a waiting receiver is told when a message comes back")
            equal((second[0]["id"], second[0]["received"]), (first[0]["id"], 2), "the same message")
            expect("received" in str(jobs.delete(first[0])["refused"]) or jobs.delete(first[0])["done"] == 0, "stale")
            wait("it is given up", lambda: jobs.receive(wait_s=1) == [] and failed.length() == 1)
            dead = failed.receive()
            equal((dead[0]["id"], dead[0]["source_queue"], dead[0]["received"]), (first[0]["id"], "jobs", 1), "dead")
            equal(failed.delete(dead[0]), {"done": 1}, "deleted")
            equal(failed.receive(), [], "what is deleted")

        with checks.check("queues: no delay is early"):
            device.publish("later/7", '{"n": 2}')
            wait("it is logged", lambda: server.one("SELECT delayed + visible FROM system.queues WHERE name = 'later'") == 1)
            epoch = server.one("SELECT max(epoch) FROM ingest_log WHERE topic = 'later/7'")
            got = later.receive(wait_s=20)
            after_ms = got[0]["first_received_ms"] - epoch / 1000
            expect(after_ms >= 3000, f"received after {after_ms} ms")
            equal(later.delete(got[0]), {"done": 1}, "deleted")

        with checks.check("queues: AWS documents write into them, also in base64"):
            device.publish("aws/7", '{"n": 3}')
            got = plain.collect(2)
            bodies = sorted(message["body"] for message in got)
            equal(bodies, sorted(['{"n":3}', base64.b64encode(b'{"n":3}').decode()]), "bodies")
            device.publish("aws/7", '{"n": 4}')
            wait("there is more", lambda: plain.length() == 2)
            expect("max_in_flight" in plain.call("receive", {}, status=429)["error"], "too many in flight")
            equal(plain.delete(*got), {"done": 2}, "deleted")
            equal(plain.call("visibility", {"receipts": [plain.receive(1)[0]["receipt"]], "visibility_s": 0}), {"done": 1}, "back")
            equal(plain.length(), 2, "visible again")
            equal(plain.call("purge"), {"purged": 2}, "purged")

        with checks.check("queues: consumers at the same time get different messages"):
            bodies = [f"m{n}" for n in range(200)]
            for at in range(0, 200, 100):
                jobs.call("send", {"messages": [{"body": body} for body in bodies[at:at + 100]]})
            got, lock = [], threading.Lock()

            def consume():
                while messages := jobs.receive(7, visibility_s=60):
                    with lock:
                        got.extend(message["body"] for message in messages)
                    jobs.delete(*messages)

            threads = [threading.Thread(target=consume) for _ in range(4)]
            [thread.start() for thread in threads]
            [thread.join(60) for thread in threads]
            equal(sorted(got), sorted(bodies), "bodies")
            equal(server.sql("SELECT visible, in_flight, delayed FROM system.queues WHERE name = 'jobs'"), [[0, 0, 0]], "left")

        with checks.check("queues: what was sent, received and deleted is so after kill -9"):
            plain.call("send", {"messages": [{"body": "kept"}, {"body": "done"}, {"base64": "/wA="}]})
            got = plain.receive(2, visibility_s=600)
            equal(plain.delete(next(message for message in got if message["body"] == "done")), {"done": 1}, "deleted")
            server.kill()
            server.start()
            left = plain.receive(10)
            equal([message.get("base64") for message in left], ["/wA="], "visible")
            kept = next(message for message in got if message["body"] == "kept")
            equal(plain.delete(kept), {"done": 1}, "the receipt is good after a restart")
            equal(plain.length("in_flight"), 1, "in flight")

        with checks.check("queues: what makes no sense is told"):
            expect("did you mean jobs?" in Queue(server, "job").call("receive", {}, status=404)["hint"], "the hint")
            for body in ({"max": 0}, {"max": 101}, {"wait_s": 21}, {"visibilty_s": 3}, {"visibility_s": 43201}):
                jobs.call("receive", body, status=400)
            jobs.call("delete", {"receipts": []}, status=400)
            equal(len(jobs.call("delete", {"receipts": ["AAAA", "!", "A" * 2000]})["refused"]), 3, "refused")
            expect(server.request("POST", "/queues/jobs/receive", "{}", token=None).status == 401, "needs the token")
            wrong = server.apply("wrong", "CREATE SINK q WITH (connector = 'queue', delay = INTERVAL '16 minutes');", code=1)
            expect("900 seconds" in "".join(wrong), f"{wrong}")

        with checks.check("queues: the command line"):
            sent, _ = server.cli("queue", "send", "jobs", "from the terminal")
            shown, _ = server.cli("queue", "receive", "jobs", "--json", "--visibility", "0")
            equal((json.loads(shown)["id"], json.loads(shown)["body"]), (sent.strip(), "from the terminal"), "message")
            taken, _ = server.cli("queue", "receive", "jobs", "--take", "--wait", "5")
            equal(taken.strip(), "from the terminal", "taken")
            listed, _ = server.cli("queue", "list")
            expect("plain-queue" in listed and "in_flight" in listed, listed)
            server.cli("queue", "send", "failed", input="from a pipe")
            equal(server.cli("queue", "purge", "failed")[0].strip(), "1 removed", "purged")

        with checks.check("queues: dropping one makes dead letters, which can be replayed"):
            later.call("send", {"messages": [{"body": "x"}]})
            server.apply("drop", "DROP SINK later;")
            letters = "SELECT count(*) FROM dead_letters WHERE sink = 'later' AND payload_text = 'x'"
            wait("a dead letter", lambda: server.one(letters) == 1)
            later.call("receive", {}, status=404)
            server.apply("again", "CREATE SINK later WITH (connector = 'queue');")
            server.cli("dead-letters", "replay", "--sink", "later")
            equal([message["body"] for message in later.receive(wait_s=5)], ["x"], "replayed")
        device.leave()
