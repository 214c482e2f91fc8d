"""Requests to the outside: what is in them, whom they may go to, and what becomes of rows that are given up."""

import hashlib
import hmac
import ipaddress
import json
import pathlib
import re
import socket
import threading
import time

from device import Device
from harness import Failed, Server, equal, expect, wait
from receivers import Receiver, prompt, reply

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
KEY = b"hedgerow-test-signing-key-that-nobody-may-see"
TOKEN = "hedgerow-test-token-that-nobody-may-see"
ENVIRONMENT = {"HEDGEROW_SECRET_PAGER_KEY": KEY.decode(), "HEDGEROW_SECRET_PAGER_TOKEN": TOKEN}

RULES = """
CREATE SINK signed WITH (
  connector = 'webhook', url = 'http://127.0.0.1:{port}/farms/${{topic(2)}}?device=${{device}}', method = 'put',
  "header.X-Farm" = 'north', "header.X-Device" = '${{device}}', "header.Authorization" = SECRET('pager_token'),
  signing_secret = SECRET('pager_key'), allow_private = '127.0.0.1:{port}'
);
CREATE RULE signed AS SELECT n, device FROM 'signed/+' INTO signed;
CREATE SINK batched WITH (
  connector = 'webhook', url = 'http://127.0.0.1:{port}/batched', batch_rows = 10, concurrency = 1,
  signing_secret = SECRET('pager_key'), allow_private = '127.0.0.1:{port}'
);
CREATE RULE batched AS SELECT n FROM 'batched' INTO batched;
CREATE SINK pager WITH (
  connector = 'webhook', url = 'http://127.0.0.1:{port}/pager', allow_private = '127.0.0.1:{port}'
);
CREATE RULE page AS SELECT n FROM 'page/+' INTO pager;
CREATE SINK narrow WITH (
  connector = 'webhook', url = 'http://127.0.0.1:{port}/narrow', max_backlog = '2kB', concurrency = 1,
  allow_private = '127.0.0.1:{port}'
);
CREATE RULE narrow AS SELECT n FROM 'narrow' INTO narrow;
"""


class Desk:
    """A receiver that keeps what comes, and refuses, or waits for `open`, by path."""

    def __init__(self):
        self.requests = []
        self.refused = []
        self.refuses = {"/pager"}
        self.open = threading.Event()

    def __call__(self, receiver, request, connection):
        if request.path == "/narrow":
            while not (self.open.wait(0.1) or receiver.closing.is_set()):
                pass
        if request.path in self.refuses:
            self.refused.append(request)
            return reply(connection, 404, b"no \x1b[31mpager\x1b[0m of this number\n" + b"x" * 1000)
        self.requests.append(request)
        return prompt(receiver, request, connection)

    def of(self, path):
        return [request for request in self.requests if request.path.startswith(path)]


def run(checks, binary, folder):
    desk = Desk()
    with Receiver(desk) as receiver, Server(binary, folder, "", ENVIRONMENT) as server:
        with checks.check("outside: the server starts, and stops when asked to"):
            server.start()
            rules = RULES.format(port=receiver.port)
            server.apply("outside", rules)
            with Device(server, "device-1") as device:
                signed(checks, server, device, desk)
                letters(checks, server, device, desk, receiver)
                overflow(checks, server, device, desk, receiver)
            closed(checks, server, rules, receiver)
            with checks.check("outside: no secret is in the log of the server, in system views or in its files"):
                hidden(server)
            equal(server.stop(), 0, "exit code")
            with checks.check("dead-letters: without a server they are listed, and nothing else is done"):
                expect("404" in server.cli("dead-letters", "list")[0], "the list")
                for what in ("replay", "drop"):
                    _, error = server.cli("dead-letters", what, "--all", code=2)
                    expect("hedgerow serve" in error, error)
            expect("panicked" not in server.log_text(), server.log_end())


def documented():
    """The receiver's part of signatures, as docs/actions.md has it."""
    block = re.search(r"```python\n(def genuine.*?)```", (DOCS / "actions.md").read_text(), re.S)
    names = {"hmac": hmac, "hashlib": hashlib}
    exec(block[1], names)
    return names["genuine"]


def signed(checks, server, device, desk):
    odd = "a/b?c=d&é ../%2e"
    with checks.check("outside: requests have the method, path, query and headers of their row"):
        device.publish("signed/caf\u00e9 1", json.dumps({"n": 1, "device": odd}))
        device.publish("signed/..", json.dumps({"n": 2, "device": "up"}))
        request = wait("the request", lambda: desk.of("/farms"))[0]
        equal((request.method, request.path.split("?")[0]), ("PUT", "/farms/caf%C3%A9%201"), "method and path")
        # Whatever a value holds, it stays one value.
        equal(request.path.count("/"), 2, f"slashes of {request.path}")
        from_query = re.fullmatch(r"device=([^&?/]*)", request.path.split("?", 1)[1])
        expect(from_query, request.path)
        equal(json.loads(request.body), {"n": 1, "device": odd}, "body")
        farm, token, kind = (request.headers[name] for name in ("X-Farm", "Authorization", "Content-Type"))
        equal((farm, token, kind), ("north", TOKEN, "application/json"), "headers")
        climbing = wait("the row that climbs", lambda: server.sql("SELECT reason FROM dead_letters WHERE sink = 'signed'"))
        expect("'..'" in climbing[0][0], climbing)
        server.cli("dead-letters", "drop", "--sink", "signed")
    with checks.check("outside: signatures hold by the code of the documentation, and only for what was signed"):
        device.publish_all(("batched", json.dumps({"n": n})) for n in range(30))
        wait("all rows", lambda: sum(len(request.rows) for request in desk.of("/batched")) == 30)
        genuine, now = documented(), time.time()
        for request in desk.of("/farms") + desk.of("/batched"):
            headers = {name: request.headers[name] for name in ("Hedgerow-Signature", "Idempotency-Key")}
            expect(genuine(headers, request.body, KEY, now), f"not signed: {headers}")
            expect(not genuine(headers, request.body + b" ", KEY, now), "another body")
            expect(not genuine(headers, request.body, KEY + b"x", now), "another key")
            expect(not genuine(headers, request.body, KEY, now + 3600), "an old one")
            expect(not genuine({**headers, "Idempotency-Key": "1-2-x-0"}, request.body, KEY, now), "another row")
            equal(len(request.ids), len(request.rows), "ids and rows")


def letters(checks, server, device, desk, receiver):
    count = lambda: server.one("SELECT count(*) FROM dead_letters WHERE sink = 'pager'")
    ids = lambda: [row[0] for row in server.sql("SELECT id FROM dead_letters WHERE sink = 'pager' ORDER BY id")]
    with checks.check("dead-letters: what a destination refuses is there with its reason, once, in SQL and in the list"):
        for n in range(6):
            device.publish(f"page/{n}", json.dumps({"n": n}))
        wait("six letters", lambda: count() == 6)
        equal(len(desk.refused), 6, "a 404 is not asked again")
        rows = server.sql(
            "SELECT payload_text, topic, client_id, rule, status, attempts, reason FROM dead_letters"
            " WHERE sink = 'pager' ORDER BY topic"
        )
        for n, (payload, *rest, reason) in enumerate(rows):
            equal((json.loads(payload), *rest), ({"n": n}, f"page/{n}", "device-1", "page", 404, 1), "letter")
            expect("pager" in reason and "\x1b" not in reason and len(reason) < 300, f"reason: {reason!r}")
        out, _ = server.cli("dead-letters", "list", "--sink", "pager")
        expect(all(f"page/{n}" in out for n in range(6)) and "404" in out and "\x1b" not in out, out)
        out, _ = server.cli("dead-letters", "list", "--limit", 2)
        expect("(2 rows)" in out, out)
        expect("(0 rows)" in server.cli("dead-letters", "list", "--sink", "pagers")[0], "another sink")
    with checks.check("dead-letters: a replay that is refused again is a letter again"):
        first, keys = ids()[0], sorted(request.headers["Idempotency-Key"] for request in desk.refused)
        expect("1 sent again" in server.cli("dead-letters", "replay", first)[0], "replay")
        wait("the seventh request", lambda: len(desk.refused) == 7)
        wait("the sixth letter", lambda: count() == 6)
        expect(desk.refused[-1].headers["Idempotency-Key"] in keys, "its id is the same")
    with checks.check("dead-letters: replayed by id and by sink, rows arrive once, with the ids they had"):
        desk.refuses.clear()
        some = ids()[:2]
        expect("2 sent again" in server.cli("dead-letters", "replay", *some)[0], "replay")
        wait("two rows", lambda: len(desk.of("/pager")) == 2)
        equal(count(), 4, "the others stay")
        last = ids()[-1]
        expect("1 dropped" in server.cli("dead-letters", "drop", last)[0], "drop")
        expect("3 sent again" in server.cli("dead-letters", "replay", "--sink", "pager")[0], "replay")
        wait("three more rows", lambda: len(desk.of("/pager")) == 5)
        equal(count(), 0, "letters")
        delivered = [request.headers["Idempotency-Key"] for request in desk.of("/pager")]
        expect(len(set(delivered)) == 5 and set(delivered) < set(keys), f"{delivered}, and were {keys}")
    with checks.check("dead-letters: all of nothing, one that is not there, and wrong usage"):
        expect("0 " in server.cli("dead-letters", "drop", "--all")[0], "drop")
        for wrong in (["replay"], ["drop"], ["drop", "--all", "3"], ["replay", "x"], ["list", "--limit", "-1"]):
            server.cli("dead-letters", *wrong, code=2)


def overflow(checks, server, device, desk, receiver):
    with checks.check("dead-letters: what is beyond a backlog, and what waits for a sink that is dropped, with the reason"):
        device.publish_all(("narrow", json.dumps({"n": n})) for n in range(50))
        reasons = lambda: server.sql("SELECT reason, count(*) FROM dead_letters WHERE sink = 'narrow' GROUP BY reason")
        waiting = "SELECT value FROM system.metrics WHERE name = 'hedgerow_outbox_rows' AND labels LIKE '%narrow%'"
        wait("the rows", lambda: server.one(waiting) + sum(row[1] for row in reasons()) == 50)
        beyond = sum(row[1] for row in reasons())
        expect(0 < beyond < 50 and all("max_backlog" in row[0] for row in reasons()), f"reasons: {reasons()}")
        text = (server.folder / "rules-outside" / "outside.sql").read_text()
        server.apply("without", text[: text.index("CREATE SINK narrow")] + "DROP SINK narrow;")
        wait("all are letters", lambda: sum(row[1] for row in reasons()) == 50)
        expect(any("dropped" in row[0] for row in reasons()), f"reasons: {reasons()}")
        out, _ = server.cli("dead-letters", "replay", "--sink", "narrow", code=1)
        expect("0 sent again" in out and "50 left" in out and "narrow" in out, out)
        desk.open.set()
        server.apply("outside", text)
        expect("50 sent again" in server.cli("dead-letters", "replay", "--sink", "narrow")[0], "replay")
        # Of the ones beyond the backlog, those that fit now are taken; the one under way may have come before.
        wait("they arrive", lambda: len({request.ids[0] for request in desk.of("/narrow")}) == 50)
        desk.refuses.add("/pager")
        device.publish("page/refused", json.dumps({"n": 1}))
        wait("a letter to keep", lambda: server.one("SELECT count(*) FROM dead_letters WHERE status = 404") == 1)


# Spellings of loopback and others that are nobody's business, with the port of a receiver that counts.
CLOSED = [
    "http://127.0.0.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://127.1:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::ffff:7f00:1]:{port}/",
    "http://localhost:{port}/",
    "http://LOCALHOST.:{port}/",
    "http://sub.localhost:{port}/",
    "http://0.0.0.0:{port}/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://10.0.0.1/",
    "https://192.168.1.1/",
    "http://user@127.0.0.1:{port}/",
    "http://user:hunter2@example.com/",
    "http://example.com@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "http://${{topic(1)}}/",
    "http://127.0.0.1:${{n}}/",
    "${{n}}",
]


def closed(checks, server, rules, receiver):
    text = "CREATE SINK own WITH (connector = 'webhook', url = '{}'{});\nCREATE RULE own AS SELECT * FROM 'own' INTO own;"
    with checks.check(f"outside: {len(CLOSED)} ways to addresses that are closed are refused when the rules are applied"):
        before = server.sql("SELECT name FROM system.sinks ORDER BY name")
        for url in CLOSED:
            url = url.format(port=receiver.port)
            try:
                _, error = server.apply("closed", rules + text.format(url, ""), code=1)
            except Failed as failed:
                raise Failed(f"{url}: {failed}") from None
            expect("CREATE SINK own" in error and "url" in error, f"{url}: {error}")
        equal(server.sql("SELECT name FROM system.sinks ORDER BY name"), before, "sinks")
    with checks.check("outside: what is opened is one address and one port"):
        refused = [("127.0.0.1", receiver.port + 1), ("localhost", receiver.port), ("127.0.0.2", receiver.port)]
        for host, port in refused:
            option = f", allow_private = '{host}:{port}'"
            server.apply("closed", rules + text.format(f"http://127.0.0.1:{receiver.port}/", option), code=1)
        server.apply("closed", rules + text.format(f"http://2130706433:{receiver.port}/", f", allow_private = '127.0.0.1:{receiver.port}'"))
    with checks.check("outside: a name that resolves to a closed address is refused at the connect"):
        # Whether the name of this machine is public is up to the machine.
        name = socket.gethostname()
        try:
            addresses = {info[4][0] for info in socket.getaddrinfo(name, None)}
        except OSError:
            addresses = set()
        if not addresses or any(ipaddress.ip_address(address).is_global for address in addresses):
            print(f"       not tried: this machine's name resolves to {addresses or 'nothing'}")
            return
        with Receiver(prompt) as trap, Device(server) as device:
            server.apply("closed", rules + text.format(f"http://{name}:{trap.port}/", ""))
            device.publish("own", json.dumps({"n": 1}))
            letter = wait("the letter", lambda: server.sql("SELECT reason, attempts FROM dead_letters WHERE sink = 'own'"))
            expect(name in letter[0][0] and "allow_private" in letter[0][0], letter)
            equal((letter[0][1], trap.requests), (1, 0), "attempts, and requests that came")
            opened = f", allow_private = '{name}:{trap.port}'"
            server.apply("closed", rules + text.format(f"http://{name}:{trap.port}/", opened))
            server.cli("dead-letters", "replay", "--sink", "own")
            wait("the row, once the name is opened", lambda: len(trap.taken) == 1)
            server.cli("rule", "apply", server.folder / "rules-outside")


def hidden(server):
    shown = {
        "the log of the server": server.log_text().encode(),
        "/metrics": server.request("GET", "/metrics").body,
        "/rules": server.request("GET", "/rules").body,
    }
    for view in ("dead_letters", "ingest_log", "system.errors", "system.rules", "system.sinks"):
        columns = "payload_text, kind" if view == "ingest_log" else "reason" if view == "dead_letters" else "*"
        shown[view] = json.dumps(server.sql(f"SELECT {columns} FROM {view}")).encode()
    files = [path for path in server.data.rglob("*") if path.is_file()]
    expect(len(files) > 5, "no files?")
    shown.update((path, path.read_bytes()) for path in files)
    for where, content in shown.items():
        for secret in (KEY, TOKEN.encode()):
            expect(secret not in content, f"a secret is in {where}")
