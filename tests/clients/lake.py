"""Foreign readers of a local lake: deltalake and DuckDB see what `POST /sql` sees, whatever types the values come in."""

import decimal
import glob
import itertools
import json

import deltalake
import duckdb

from device import Device
from harness import equal, expect, wait

# One member with values of several types, as payload text; and the value itself.
VALUES = {"21": 21, "21.5": 21.5, "1e3": 1000, '"21"': "21", "null": None, "true": True, "[1]": [1]}
ORDERS = [
    ["21", "21.5", "1e3", '"21"', "null", "true", "[1]"],
    ['"21"', "21", "null", "21.5", "1e3", "[1]", "true"],
    ["null", "1e3", '"21"', "21", "21.5", "true", "[1]"],
    ["true", "21.5", '"21"', "1e3", "21", "[1]", "null"],
    ["[1]", "null", '"21"', "true", "21", "21.5", "1e3"],
]


class Readers:
    """One lake, read by three."""

    def __init__(self, server, name):
        self.server = server
        self.name = name
        self.folder = str(server.data / "lake" / name)

    def wait_closed(self, rows):
        """Until deltalake counts as many rows."""
        wait("a Delta table", lambda: deltalake.DeltaTable.is_deltatable(self.folder))
        wait(f"{rows} rows in closed files", lambda: self.delta().num_rows == rows)

    def delta(self):
        return deltalake.DeltaTable(self.folder).to_pyarrow_table()

    def duck(self, select, rest=""):
        """A query over the files that the Delta log names."""
        files = deltalake.DeltaTable(self.folder).file_uris()
        relation = duckdb.read_parquet([name.removeprefix("file://") for name in files], union_by_name=True)
        return [list(row) for row in duckdb.sql(f"SELECT {select} FROM relation {rest}").fetchall()]

    def sql(self, select, rest=""):
        return self.server.sql(f"SELECT {select} FROM {self.name} {rest}")


def run(checks, server):
    declare(server)
    readings(checks, server)
    orders(checks, server)
    declared(checks, server)


def declare(server):
    text = ["CREATE SINK readings WITH (connector = 'lake');"]
    text += ["CREATE RULE readings AS SELECT *, topic(2) AS device FROM 'readings/+' INTO readings;"]
    for number, way in itertools.product(range(len(ORDERS)), ("slowly", "fast")):
        name = f"{way}_{number}"
        text += [f"CREATE SINK {name} WITH (connector = 'lake');"]
        text += [f"CREATE RULE {name} AS SELECT * FROM 'order/{name}' INTO {name};"]
    text += [
        "CREATE SINK typed (n BIGINT, d DOUBLE, s VARCHAR, b BOOLEAN, t TIMESTAMP, j JSON, m DECIMAL(12, 2))"
        " WITH (connector = 'lake');",
        "CREATE RULE typed AS SELECT * FROM 'typed' INTO typed;",
    ]
    server.apply("lake", "\n".join(text))


def readings(checks, server):
    lake = Readers(server, "readings")
    count = 2000
    with Device(server) as device:
        device.publish_all(
            (f"readings/{number % 7}", json.dumps({"n": number, "x": number / 4, "ok": number % 3 == 0, "name": f"é{number}"}))
            for number in range(count)
        )
    with checks.check("lake: DuckDB and deltalake agree with SQL on count, sums and texts"):
        lake.wait_closed(count)
        figures = "count(*), sum(n), sum(x), count(*) FILTER (WHERE ok), min(name), max(name), count(DISTINCT device)"
        expected = [count, count * (count - 1) / 2, count * (count - 1) / 8, 667, "é0", "é999", 7]
        equal(lake.sql(figures), [expected], "SQL")
        equal(lake.duck(figures), [expected], "DuckDB")
        table = lake.delta()
        equal(sum(table.column("n").to_pylist()), expected[1], "deltalake")
        equal(table.column("ok").to_pylist().count(True), 667, "deltalake")
    with checks.check("lake: each logged message is one row, by its offset in the log"):
        logged = server.sql("SELECT \"offset\" FROM ingest_log WHERE kind = 'message' AND topic LIKE 'readings/%' ORDER BY 1")
        equal(sorted(lake.delta().column("_offset").to_pylist()), [row[0] for row in logged], "offsets")
    with checks.check("lake: types are the same for all readers"):
        names = {"n": "double", "x": "double", "ok": "bool", "name": "string", "device": "string"}
        schema = lake.delta().schema
        equal({name: str(schema.field(name).type) for name in names}, names, "deltalake")
        described = dict((row[0], row[1]) for row in server.sql("DESCRIBE readings"))
        equal(
            [described[name] for name in ("n", "x", "ok", "name")], ["Float64", "Float64", "Boolean", "Utf8"], "DESCRIBE"
        )
        equal(str(schema.field("_time").type), "timestamp[us, tz=UTC]", "_time")
        equal(lake.duck("any_value(typeof(_time))"), [["TIMESTAMP WITH TIME ZONE"]], "DuckDB's _time")
    with checks.check("lake: every Parquet file in the folder is in the Delta log, and nothing else lies there"):
        on_disk = {name for name in glob.glob(f"{lake.folder}/**/*.parquet", recursive=True)}
        in_log = {name.removeprefix("file://") for name in deltalake.DeltaTable(lake.folder).file_uris()}
        equal({name for name in on_disk if "/_delta_log/" not in name}, in_log, "files")


def value_of(row):
    """The member `v` of a row, from its column or from what did not fit it; a column of JSON is text."""
    in_column, rescued = row
    rescued = json.loads(rescued) if rescued else {}
    expect(in_column is None or "v" not in rescued, f"both in the column and rescued: {row}")
    return rescued["v"] if "v" in rescued else in_column


def orders(checks, server):
    with Device(server) as device:
        for number, order in enumerate(ORDERS):
            payloads = [f'{{"v": {value}, "member_{at}": {at}}}' for at, value in enumerate(order)]
            device.publish_all((f"order/fast_{number}", payload) for payload in payloads)
            for at, payload in enumerate(payloads):
                device.publish(f"order/slowly_{number}", payload)
                seen = f"SELECT count(*) FROM slowly_{number}"
                wait("the row", lambda: server.one(seen) == at + 1)
    for number, order in enumerate(ORDERS):
        for way in ("slowly", "fast"):
            with checks.check(f"lake: values of several types lose nothing: {' '.join(order)}, {way}"):
                lake = Readers(server, f"{way}_{number}")
                lake.wait_closed(len(order))
                rescued = "_rescued" if "_rescued" in lake.delta().schema.names else "NULL"
                columns = f"v, {rescued}"
                for reader, rows in (
                    ("SQL", lake.sql(columns, "ORDER BY _offset")),
                    ("DuckDB", lake.duck(columns, "ORDER BY _offset")),
                ):
                    is_json = order[0] == "[1]"
                    values = [json.loads(row[0]) if is_json and row[0] else value_of(row) for row in rows]
                    expected = [VALUES[value] for value in order]
                    equal(list(map(plain, values)), list(map(plain, expected)), reader)
                for at in range(len(order)):
                    select = f"sum(member_{at}), count(member_{at})"
                    equal(lake.sql(select), [[at, 1]], f"the new member {at}, SQL")
                    equal(lake.duck(select), [[at, 1]], f"the new member {at}, DuckDB")


def plain(value):
    """The value with its kind: 21 is not "21" and not true, but 21.0."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return ("number", float(value))
    return (type(value).__name__, value)


def declared(checks, server):
    lake = Readers(server, "typed")
    with Device(server) as device:
        device.publish(
            "typed",
            '{"n": 9007199254740993, "d": 0.1, "s": "text", "b": true, "t": "2026-01-02T03:04:05.678Z", "j": {"k": [1]},'
            ' "m": 1234567890.25}',
        )
        device.publish("typed", '{"n": 1.5, "d": "0.5", "s": 7, "b": 1, "t": 1767323045678, "j": 3, "m": 0.001}')
    lake.wait_closed(2)
    with checks.check("lake: declared types keep every digit"):
        row = lake.delta().sort_by("_offset").to_pylist()[0]
        equal(row["n"], 9007199254740993, "BIGINT beyond a double")
        equal(row["m"], decimal.Decimal("1234567890.25"), "DECIMAL")
        equal(row["t"].isoformat(), "2026-01-02T03:04:05.678000+00:00", "TIMESTAMP")
        equal((row["d"], row["s"], row["b"], json.loads(row["j"])), (0.1, "text", True, {"k": [1]}), "the others")
        equal(lake.duck("n, m, epoch_ms(t)", "ORDER BY _offset LIMIT 1"), [[row["n"], row["m"], 1767323045678]], "DuckDB")
        equal(lake.sql("n, CAST(m AS VARCHAR)", "ORDER BY _offset LIMIT 1"), [[row["n"], "1234567890.25"]], "SQL")
    with checks.check("lake: what does not fit a declared type is in _rescued, all of it"):
        row = lake.delta().sort_by("_offset").to_pylist()[1]
        rescued = json.loads(row["_rescued"])
        for name, value in {"n": 1.5, "d": "0.5", "s": 7, "b": 1, "j": 3, "m": 0.001}.items():
            kept = rescued.get(name, row[name])
            expect(kept in (value, str(value)) or float(kept) == float(value), f"{name}: {kept!r} is not {value!r}")
        equal(row["t"].isoformat(), "2026-01-02T03:04:05.678000+00:00", "milliseconds as TIMESTAMP")
