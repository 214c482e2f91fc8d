"""Real clients and foreign readers against the binary: `run.py BINARY [GROUP…]`.

Devices are paho, readers of the lake are deltalake and DuckDB, the object store is moto, analysts are http.client and
pyarrow. Prints a line per check and ends with `N passed, N failed`; the exit code says the same. requirements.txt has what
it needs.
"""

import faulthandler
import os
import pathlib
import sys
import tempfile

import actions
import api
import calls
import commands
import crash
import lake
import mqtt
import notify
import outside
import presence
import queues
import rules
import store
import webhooks
from harness import Checks, Server

# Longer than this, something hangs that should have been bounded: show where, and fail. Runs that are asked to be long are.
LONGER = {"HEDGEROW_TEST_OUTAGE": 10, "HEDGEROW_TEST_TROUBLE": 20, "HEDGEROW_TEST_TOPICS": 0.01}
LIMIT_S = 900 + sum(each * float(os.environ.get(name, "0")) for name, each in LONGER.items())

SETTINGS = """
[gateway]
topic_cache = 1000
[lake]
roll_age = "1s"
"""


def with_server(group):
    """A group of checks on a server of its own."""

    def run(checks, binary, folder):
        with checks.check(f"{group.__name__}: a server starts, and stops when asked to"):
            with Server(binary, folder, SETTINGS) as server:
                server.start()
                group.run(checks, server)
                if server.process.poll() is None:
                    code = server.stop()
                    assert code == 0, f"exit code {code}; {server.log_end()}"
                assert "panicked" not in server.log_text(), server.log_end()

    return run


GROUPS = {
    "mqtt": with_server(mqtt),
    "rules": with_server(rules),
    "lake": with_server(lake),
    "api": with_server(api),
    "calls": calls.run,
    "commands": commands.run,
    "store": store.run,
    "crash": crash.run,
    "presence": presence.run,
    "notify": notify.run,
    "outside": outside.run,
    "webhooks": webhooks.run,
    "actions": actions.run,
    "queues": queues.run,
}


def main():
    if len(sys.argv) < 2 or any(name not in GROUPS for name in sys.argv[2:]):
        sys.exit(f"usage: run.py BINARY [{'|'.join(GROUPS)}]…")
    faulthandler.dump_traceback_later(LIMIT_S, exit=True)
    binary = pathlib.Path(sys.argv[1]).resolve()
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="hedgerow-clients-") as folder:
        for name in sys.argv[2:] or GROUPS:
            GROUPS[name](checks, binary, pathlib.Path(folder) / name)
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(0 if checks.failed == 0 and checks.passed > 0 else 1)


if __name__ == "__main__":
    main()
