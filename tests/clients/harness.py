"""What the checks share: a server in a folder of its own, the HTTP API, the command line, and waiting."""

import contextlib
import http.client
import json
import os
import pathlib
import queue
import signal
import subprocess
import threading
import time
import traceback


class Failed(Exception):
    """A check that did not hold."""


def expect(condition, message):
    """Fails the check unless the condition holds."""
    if not condition:
        raise Failed(message)


def equal(actual, expected, what):
    """Fails the check unless both are the same."""
    expect(actual == expected, f"{what}: expected {expected!r}, got {actual!r}")


def wait(what, probe, seconds=20.0):
    """Waits until `probe` returns something true, and returns it. Gives up after `seconds`."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        last = probe()
        if last:
            return last
        time.sleep(0.02)
    raise Failed(f"after {seconds:.0f} s still not: {what} (last seen: {last!r})")


class Checks:
    """Runs checks by name, prints a line for each, and counts."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    @contextlib.contextmanager
    def check(self, name):
        """One check: the block passes unless it raises."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:  # a check may fail in any way, and the next one still runs
            self.failed += 1
            print(f"FAILED {name} ({time.monotonic() - begun:.1f} s): {str(error)[:2000] or type(error).__name__}", flush=True)
            if not isinstance(error, Failed):
                traceback.print_exc()
        else:
            self.passed += 1
            print(f"ok     {name} ({time.monotonic() - begun:.1f} s)", flush=True)


class Answer:
    """An HTTP answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Server:
    """A `hedgerow serve` in its own folder, on free ports."""

    def __init__(self, binary, folder, settings="", environment=None):
        self.binary = str(binary)
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        self.environment = {**os.environ, **(environment or {})}
        self.mqtt = ("127.0.0.1", 0)
        self.http = "127.0.0.1:0"
        self.process = None
        (self.folder / "hedgerow.toml").write_text(settings)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Leaves nothing running, started or not."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self, seconds=60.0):
        """Starts, on the ports of the last time if there was one, and returns when it serves."""
        command = [self.binary, "serve", "--data", str(self.data), "--http", self.http]
        command += ["--mqtt", "{}:{}".format(*self.mqtt)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(self.process.stdout, lines), daemon=True).start()
        said = {}
        deadline = time.monotonic() + seconds
        while "token" not in said:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"the server did not start within {seconds:.0f} s; {self.log_end()}") from None
            if line is None:
                raise Failed(f"the server ended with {self.process.wait()} at its start; {self.log_end()}")
            word, _, rest = line.strip().partition(" ")
            said[word] = rest
        host, _, port = said["mqtt"].rpartition(":")
        self.mqtt = (host, int(port))
        self.http = said["http"].removeprefix("http://")
        self.token = pathlib.Path(said["token"]).read_text().strip()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.put(line)
        lines.put(None)

    def stop(self):
        """Asks it to stop, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"the server did not stop within 40 s of SIGTERM; {self.log_end()}") from None

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def log_text(self):
        return self.log.read_text(errors="replace")

    def log_end(self):
        return "its log ends with:\n" + self.log_text()[-1500:]

    def rss_mib(self):
        """Resident memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def request(self, method, path, body=None, token=True, **headers):
        """An HTTP request; `token` may be another token, or None for none. Header names are given with underscores."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            headers["Authorization"] = f"Bearer {self.token if token is True else token}"
        connection = http.client.HTTPConnection(self.http, timeout=30)
        try:
            connection.request(method, path, body=body, headers=headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def sql(self, query):
        """The rows of a query."""
        answer = self.request("POST", "/sql", json.dumps({"sql": query}))
        expect(answer.status == 200, f"{query}: {answer.status} {answer.text}")
        result = answer.json()
        expect("error" not in result, f"{query}: {result.get('error')}")
        return result["rows"]

    def one(self, query):
        """The only value of a query."""
        rows = self.sql(query)
        expect(len(rows) == 1 and len(rows[0]) == 1, f"{query}: not one value but {rows}")
        return rows[0][0]

    def cli(self, *arguments, code=0, input=None, seconds=60):
        """Runs the command line against this server (or its folder, when it does not run), and returns standard output
        and standard error. Fails unless it ends with `code`."""
        environment = {**self.environment, "HEDGEROW_HTTP_LISTEN": self.http}
        command = [self.binary, *map(str, arguments), "--data", str(self.data)]
        try:
            done = subprocess.run(
                command, cwd=self.folder, env=environment, input=input, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(command[1:])}: did not end within {seconds} s") from None
        expect(
            done.returncode == code,
            f"{' '.join(command[1:])}: exit code {done.returncode}, not {code}\n{done.stdout[-800:]}\n{done.stderr[-1500:]}",
        )
        return done.stdout, done.stderr

    def apply(self, name, text, code=0):
        """Makes the server follow one rule file. (A folder is the whole of what it follows.)"""
        rules = self.folder / f"rules-{name}"
        rules.mkdir(exist_ok=True)
        (rules / f"{name}.sql").write_text(text)
        return self.cli("rule", "apply", rules, code=code)
