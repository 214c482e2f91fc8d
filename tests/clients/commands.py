"""The command line, with a running server and without."""

import json
import pathlib
import re
import subprocess

from harness import Server, equal, expect, wait

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTINGS = '[lake]\nroll_age = "1s"\n'
RULES = """
CREATE SINK kept WITH (connector = 'lake');
CREATE RULE keep AS SELECT *, topic(2) AS device FROM 'devices/+' INTO kept;
CREATE RULE echo AS SELECT n FROM 'devices/+' INTO TOPIC 'echo/${topic(2)}' QOS 1;
"""


def run(checks, binary, folder):
    with Server(binary, folder, SETTINGS) as server:
        rules = server.folder / "rules"
        rules.mkdir()
        (rules / "keep.sql").write_text(RULES)
        without_server(checks, server)
        server.start()
        running(checks, server, rules)
        equal(server.stop(), 0, "exit code of serve")
        after(checks, server, rules)
        tests(checks, server)


def without_server(checks, server):
    with checks.check("command line: help and version of every command"):
        out, _ = server.cli("--help")
        commands = re.findall(r"^  (\w+) ", out.split("Commands:")[1].split("Options:")[0], re.M)
        for command in ("serve", "rule", "query", "log", "config", "pub", "sub"):
            expect(command in commands, f"no command {command}")
        for command in set(commands) - {"help"}:
            server.cli(command, "--help")
        expect(re.match(r"hedgerow \d+\.\d+\.\d+", server.cli("--version")[0]), "version")
    with checks.check("command line: config prints every setting, and checks the ones in force"):
        out, _ = server.cli("config")
        for section in ("data", "log", "gateway", "http", "engine", "rules", "lake", "query", "logging", "secrets"):
            expect(f"[{section}]" in out, f"no section {section}")
        expect("good" in server.cli("config", "--check")[0], "check")
        whole = server.folder / "whole.toml"
        whole.write_text(out)
        server.cli("config", "--check", "--config", whole)
        wrong = server.folder / "wrong.toml"
        wrong.write_text("[gateway]\nlistn = '127.0.0.1:0'\n")
        _, err = server.cli("config", "--check", "--config", wrong, code=2)
        expect("listn" in err and "listen" in err and "2" in err, f"line and the nearest key: {err}")
        _, err = server.cli("serve", "--config", wrong, code=2)
        server.cli("config", "--check", "--config", server.folder / "missing.toml", code=2)
    with checks.check("command line: wrong usage ends with 2, and says what is right"):
        for wrong in (["nothing"], ["query"], ["rule"], ["rule", "check"], ["sub"], ["pub"], ["query", "--format", "xml", "SELECT 1"]):
            _, err = server.cli(*wrong, code=2)
            expect("Usage" in err or "possible values" in err, f"{wrong}: {err}")
    with checks.check("rule check: mistakes with line, caret and what to do, all of them"):
        good = server.folder / "good.sql"
        good.write_text(RULES)
        server.cli("rule", "check", good, ROOT / "examples" / "farm" / "farm.sql")
        bad = server.folder / "bad.sql"
        bad.write_text(RULES + "CREATE RULE one AS SELECT nofunction(1) FROM 'a' INTO kept;\nCREATE RULE two AS SELECT 1 AS x FROM 'a/#/b' INTO missing;\n")
        out, err = server.cli("rule", "check", bad, code=1)
        for said in ("nofunction", "a/#/b", "missing", "^", "bad.sql:5", "bad.sql:6"):
            expect(said in out + err, f"{said!r} is not in:\n{out}{err}")
        out, _ = server.cli("rule", "check", "--json", bad, code=1)
        expect(len([json.loads(line) for line in out.splitlines()]) >= 3, out)
        server.cli("rule", "check", server.folder / "missing.sql", code=2)


def running(checks, server, rules):
    host, port = server.mqtt
    at = ["--host", host, "--port", port]
    with checks.check("rule apply: a dry run, then for good, and a refusal changes nothing"):
        out, _ = server.cli("rule", "apply", "--dry-run", rules)
        expect("Dry run" in out and "create rule keep" in out, out)
        equal(server.sql("SELECT count(*) FROM system.rules"), [[0]], "rules after a dry run")
        server.cli("rule", "apply", rules)
        broken = server.folder / "broken"
        broken.mkdir()
        (broken / "x.sql").write_text("CREATE RULE keep AS SELECT * FROM 'devices/+' INTO nowhere;")
        _, err = server.cli("rule", "apply", broken, code=1)
        expect("nowhere" in err and "Nothing was changed" in err, err)
        server.cli("rule", "apply", server.folder / "missing", code=2)
        names = json.loads(server.cli("rule", "list", "--json")[0])
        equal(sorted(rule["name"] for rule in names), ["echo", "keep"], "rules")
    with checks.check("pub and sub: arguments, standard input, a file, QoS 0 to 2, MQTT 5"):
        def listen(count, *options):
            command = [server.binary, "sub", "echo/#", "--limit", str(count), "--host", host, "--port", str(port), *options]
            process = subprocess.Popen(command, cwd=server.folder, stdout=subprocess.PIPE, text=True)
            sub = "SELECT count(*) FROM system.sessions WHERE connected AND subscriptions > 0"
            wait("the subscription", lambda: server.one(sub) == 1)
            return process

        listener = listen(6, "--verbose")
        try:
            server.cli("pub", "devices/a", '{"n": 1}', '{"n": 2}', *at)
            server.cli("pub", "devices/b", *at, "--qos", 2, input='{"n": 3}\n{"n": 4}\n')
            server.cli("pub", "devices/c", '{"n": 5}', *at, "--qos", 0, "--v5")
            (server.folder / "payload.json").write_text('{"n":\n 6}')
            server.cli("pub", "devices/d", "--file", "payload.json", *at)
            out, _ = listener.communicate(timeout=20)
        finally:
            listener.kill()
        equal(listener.returncode, 0, "exit code of sub")
        heard = ['echo/a {"n":1}', 'echo/a {"n":2}', 'echo/b {"n":3}', 'echo/b {"n":4}', 'echo/c {"n":5}', 'echo/d {"n":6}']
        equal(sorted(out.splitlines()), heard, "heard")
        server.cli("pub", "devices/+", "x", *at, code=2)
        server.cli("pub", "devices/a", "x", "--host", host, "--port", 1, code=2)
        server.cli("sub", "a/#/b", *at, code=2)
    with checks.check("query: table, JSON, CSV, standard input, and mistakes"):
        wait("six rows", lambda: server.one("SELECT count(*) FROM kept") == 6)
        out, _ = server.cli("query", "SELECT device, n FROM kept ORDER BY n LIMIT 1")
        equal(out.split(), ["device", "n", "------", "---", "a", "1.0", "(1", "row)"], "table")
        out, _ = server.cli("query", "SELECT 'a' || chr(27) || '[2Jb' AS x")
        expect("\x1b" not in out and "[2Jb" in out, "a terminal would obey what a device sent")
        result = json.loads(server.cli("query", "--json", "SELECT sum(n) AS s FROM kept")[0])
        equal((result["columns"][0]["name"], result["rows"]), ("s", [[21.0]]), "JSON")
        equal(server.cli("query", "--format", "csv", "-", input="SELECT count(*) AS n FROM kept")[0], "n\n6\n", "CSV")
        _, err = server.cli("query", "SELECT * FROM kepp", code=2)
        expect("kepp" in err and "kept" in err, err)
        server.cli("query", "DROP TABLE kept", code=2)
    with checks.check("rule status, disable, enable"):
        out, _ = server.cli("rule", "status")
        expect(re.search(r"keep +6 +6 +6 +0", out), out)
        server.cli("rule", "disable", "keep")
        server.cli("pub", "devices/a", '{"n": 7}', *at)
        wait("the message at the other rule", lambda: server.one("SELECT matched FROM system.rules WHERE name = 'echo'") == 7)
        equal(server.one("SELECT count(*) FROM kept"), 6, "a rule at rest")
        server.cli("rule", "enable", "keep")
        server.cli("pub", "devices/a", '{"n": 8}', *at)
        wait("the next row", lambda: server.one("SELECT count(*) FROM kept") == 7)
        _, err = server.cli("rule", "disable", "kepe", code=2)
        expect("keep" in err, f"no hint at the right name: {err}")
    with checks.check("serve: a port or a folder that is taken is told, and ends with 2"):
        for taken in (
            ["--data", "other", "--mqtt", f"{host}:{port}", "--http", "127.0.0.1:0"],
            ["--data", "other", "--mqtt", "127.0.0.1:0", "--http", server.http],
            ["--data", str(server.data), "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"],
        ):
            done = subprocess.run(
                [server.binary, "serve", *taken], cwd=server.folder, capture_output=True, text=True, timeout=30
            )
            equal(done.returncode, 2, f"{taken}: {done.stderr[-500:]}")
            expect("in use" in done.stderr, done.stderr[-500:])
    with checks.check("log inspect: while the server runs"):
        inspect(server)


def inspect(server):
    out, _ = server.cli("log", "inspect")
    expect("sound" in out, out)
    records = [json.loads(line) for line in server.cli("log", "inspect", "--records", "--json")[0].splitlines()]
    messages = [record for record in records if record["kind"] == "message"]
    equal(len([record for record in messages if record["topic"].startswith("devices/")]), 8, "messages of devices")
    shown, _ = server.cli("log", "inspect", "--records")
    expect(all(char.isprintable() for char in shown.replace("\n", "")), "a terminal would obey what a device sent")
    derived = [record for record in messages if record["topic"].startswith("echo/")]
    equal((len(derived), {record["hops"] for record in derived}), (8, {1}), "messages of the rule")


def after(checks, server, rules):
    with checks.check("without a server: query, rules and the log, in the folder itself"):
        out, _ = server.cli("query", "--format", "csv", "SELECT count(*), sum(n) FROM kept")
        equal(out.splitlines()[1], "7,29.0", "the lake")
        expect("keep" in server.cli("rule", "list")[0], "rules")
        server.cli("rule", "disable", "echo")
        listed = json.loads(server.cli("rule", "list", "--json")[0])
        equal({rule["name"]: rule["enabled"] for rule in listed}, {"keep": True, "echo": False}, "what was disabled")
        server.cli("rule", "enable", "echo")
        expect("Nothing to do" in server.cli("rule", "apply", rules)[0], "apply")
        _, err = server.cli("query", "SELECT devic FROM kept", code=2)
        expect("device" in err, f"no hint at the right name: {err}")
        empty = server.folder / "empty"
        empty.mkdir()
        server.cli("rule", "apply", empty, code=2)
        server.cli("rule", "check", empty, code=2)
        expect("keep" in server.cli("rule", "list")[0], "rules")
        inspect(server)
    with checks.check("without a server and without a folder: told, and nothing is made"):
        nothing = server.folder / "nothing"
        server.cli("log", "inspect", nothing, code=2)
        expect(not nothing.exists(), "log inspect made its folder")


CASES = """
{"id": "a.1", "section": "a", "sqlVersion": "native", "sql": "SELECT x + 1 AS y FROM 'a'", "topic": "a", "payload": {"x": 1}, "expect": {"y": 2}}
{"id": "a.2", "section": "a", "sqlVersion": "2016-03-23", "sql": "SELECT x FROM 'a' WHERE x > 1", "topic": "a", "payload": {"x": 1}, "expect_no_match": true}
"""


def tests(checks, server):
    with checks.check("rule test: the vectors of the reference all pass"):
        files = sorted((ROOT / "sql" / "tests" / "vectors").glob("*.jsonl"))
        expect(len(files) >= 2, f"vectors: {files}")
        out, _ = server.cli("rule", "test", *files)
        passed = re.search(r"^(\d+) passed, 0 failed$", out, re.M)
        expect(passed and int(passed[1]) >= 1263, out[-300:])
    with checks.check("rule test: a failure is shown and ends with 1, an unreadable file with 2"):
        cases = server.folder / "cases.jsonl"
        cases.write_text(CASES)
        expect("2 passed, 0 failed" in server.cli("rule", "test", cases)[0], "good cases")
        cases.write_text(CASES.replace('"y": 2', '"y": 3'))
        out, _ = server.cli("rule", "test", cases, code=1)
        for said in ("a.1", '-   "y": 3', '+   "y": 2', "1 passed, 1 failed"):
            expect(said in out, f"{said!r} is not in {out}")
        cases.write_text(CASES.replace("expect_no_match", "expect_no_mach"))
        out, _ = server.cli("rule", "test", cases, code=2)
        expect("cases.jsonl:3:" in out and "1 passed, 1 failed" in out, out)
        server.cli("rule", "test", server.folder / "missing.jsonl", code=2)
    with checks.check("rule test: the tests of the example folder pass, also against the rules of the server"):
        farm = ROOT / "examples" / "farm"
        out, _ = server.cli("rule", "test", farm)
        expect(re.search(r"^[1-9]\d* passed, 0 failed$", out, re.M), out)
        server.cli("rule", "apply", farm)
        out, _ = server.cli("rule", "test", "--deployed", farm)
        expect(re.search(r"^[1-9]\d* passed, 0 failed$", out, re.M), out)
        wrong = server.folder / "wrong.test"
        wrong.write_text((farm / "farm.test").read_text().replace("rule too_hot", "rule too_hto"))
        out, _ = server.cli("rule", "test", "--deployed", wrong, code=1)
        expect("did you mean `too_hot`?" in out, out)
    with checks.check("rule explain: what a rule reads, and how it runs for a sample"):
        out, _ = server.cli("rule", "explain", farm, "--rule", "too_hot", "--payload", '{"temperature": 51.2}')
        for said in ("reads   temperature", "alerts/${topic(3)}/heat", "kinds   temperature number", "on columns: ",
                     '{"sensor":"x","temperature":51.2}', "to alerts/x/heat"):
            expect(said in out, f"{said!r} is not in {out}")
        out, _ = server.cli("rule", "explain", "--deployed", "--rule", "too_hot", "--json")
        equal(json.loads(out)[0]["reads"], ["temperature"], "reads")
        _, err = server.cli("rule", "explain", farm, "--rule", "to_hot", code=2)
        expect("did you mean `too_hot`?" in err, err)
    with checks.check("rule check --json: the shape that editors rely on"):
        doubtful = server.folder / "doubtful.sql"
        doubtful.write_text("CREATE RULE r AS\n  SELECT x FROM 'a/+' WHERE topic(2) = 7 INTO TOPIC 'b';\n")
        out, _ = server.cli("rule", "check", "--json", doubtful)
        found = json.loads(out)
        equal((found["line"], found["column"], found["end"]), (2, 29, {"line": 2, "column": 41}), "place")
        equal((found["severity"], found["code"], found["help"]), ("warning", "never-equal", "write '7'"), "warning")
        doubtful.write_text("CREATE RULE r AS SELECT uper(x) AS y FROM 'a' INTO TOPIC 'b'")
        out, _ = server.cli("rule", "check", "--json", doubtful, code=1)
        equal(json.loads(out)["code"], "unknown-function", "code")
    with checks.check("rule test: the examples of docs/rule-tests.md are as they are said to be"):
        blocks = re.findall(r"```jsonl\n(.*?)```", (ROOT / "docs" / "rule-tests.md").read_text(), re.S)
        expect(len(blocks) >= 2, "no examples")
        for block in blocks:
            cases.write_text(block)
            out, _ = server.cli("rule", "test", cases)
            expect(f"{len(block.strip().splitlines())} passed, 0 failed" in out, out)
