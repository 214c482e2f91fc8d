"""The farm of the examples: from the publish to table, lake, window and topic, as the README shows it."""

import json
import pathlib

import deltalake

from device import V5, Device
from harness import equal, expect, wait

FARM = pathlib.Path(__file__).resolve().parents[2] / "examples" / "farm"
READINGS = 300

# What a republish says of itself to subscribers with MQTT 5.
DOCUMENT = {
    "sql": "SELECT * FROM 'questions/+'",
    "awsIotSqlVersion": "2016-03-23",
    "actions": [{"republish": {"topic": "answers/${topic(2)}", "qos": 1, "headers": {
        "payloadFormatIndicator": "UTF8_DATA",
        "contentType": "text/${kind}",
        "messageExpiry": "${seconds}",
        "responseTopic": "${get_mqtt_property('response_topic')}",
        "correlationData": "${get_mqtt_property('correlation_data')}",
        "userProperties": [{"key": "from", "value": "${clientid()}"}, {"key": "from", "value": "the rule"}],
    }}}],
    "errorAction": {"republish": {"topic": "answers/failed"}},
}


def run(checks, server):
    farm(checks, server)
    headers(checks, server)


def headers(checks, server):
    folder = server.folder / "rules-headers"
    folder.mkdir()
    (folder / "answer.json").write_text(json.dumps(DOCUMENT))
    with checks.check("rules: a document with headers is applied, and one with wrong ones is not"):
        server.cli("rule", "apply", folder)
        wrong = json.loads(json.dumps(DOCUMENT))
        wrong["actions"][0]["republish"]["headers"]["payloadFormatIndicator"] = "text"
        (server.folder / "rules-wrong").mkdir()
        (server.folder / "rules-wrong" / "answer.json").write_text(json.dumps(wrong))
        _, error = server.cli("rule", "apply", server.folder / "rules-wrong", code=1)
        expect("UTF8_DATA or UNSPECIFIED_BYTES" in error, error)
    with Device(server, "asker", version=V5) as asker, Device(server, "old") as old:
        asker.subscribe("answers/#")
        old.subscribe("answers/#")
        with checks.check("rules: what is republished has its MQTT 5 properties, also those that templates make"):
            question = json.dumps({"kind": "csv", "seconds": 60})
            asker.publish("questions/7", question, ResponseTopic="replies/7", CorrelationData=b"\x00\xff")
            answer = asker.message()
            equal((answer.topic, answer.payload.decode()), ("answers/7", question), "message")
            made = answer.properties
            equal(made.PayloadFormatIndicator, 1, "format")
            equal(made.ContentType, "text/csv", "content type")
            equal(made.ResponseTopic, "replies/7", "response topic")
            equal(made.CorrelationData, b"\x00\xff", "correlation data")
            expect(0 < made.MessageExpiryInterval <= 60, f"expiry: {made.MessageExpiryInterval}")
            equal(made.UserProperty, [("from", "asker"), ("from", "the rule")], "user properties")
            equal(old.message().payload.decode(), question, "the same with MQTT 3.1.1")
        with checks.check("rules: an empty header is left out, and one that cannot be sent fails the action"):
            asker.publish("questions/8", json.dumps({"kind": "csv", "seconds": 5}))
            made = asker.message().properties
            expect(not hasattr(made, "ResponseTopic") and not hasattr(made, "CorrelationData"), f"properties: {made}")
            asker.publish("questions/9", json.dumps({"kind": "csv", "seconds": "soon"}))
            failure = json.loads(asker.message().payload)["failures"][0]
            equal(failure["failedAction"], "RepublishAction", "action")
            expect("messageExpiry is a whole number of seconds" in failure["errorMessage"], failure)


def farm(checks, server):
    with checks.check("rules: the farm example is applied, and a second time changes nothing"):
        out, _ = server.cli("rule", "apply", FARM)
        for said in ("create rule too_hot", "create table sensor_data", "create sink farm_lake", "In force from epoch"):
            expect(said in out, f"{said!r} is not in {out}")
        out, _ = server.cli("rule", "apply", FARM)
        expect("Nothing to do" in out, out)
    with Device(server) as listener, Device(server, "farmer", version=V5) as farmer:
        listener.subscribe("alerts/#")
        sent = [(number % 10, 20 + number / 8) for number in range(READINGS)]
        farmer.publish_all(
            (f"macdonald/sensors/{sensor}", json.dumps({"temperature": temperature, "place": {"barn": sensor}}))
            for sensor, temperature in sent
        )
        hot = [(sensor, temperature) for sensor, temperature in sent if temperature > 50]
        with checks.check("rules: what WHERE lets through is heard on its topic, once and in order"):
            heard = [listener.message() for _ in hot]
            rows = [json.loads(message.payload) for message in heard]
            alerts = sorted((row["sensor"], row["temperature"]) for row in rows)
            equal(alerts, sorted((str(sensor), temperature) for sensor, temperature in hot), "alerts")
            equal({tuple(row) for row in rows}, {("sensor", "temperature")}, "members")
            equal({message.topic for message in heard}, {f"alerts/{sensor}/heat" for sensor, _ in hot}, "topics")
            for sensor in range(10):
                mine = [row["temperature"] for row in rows if row["sensor"] == str(sensor)]
                equal(mine, sorted(mine), f"the order of sensor {sensor}")
    with checks.check("rules: rows are in the lake at once, by SQL"):
        count = "SELECT count(*), sum(temperature), min(_client_id) FROM farm_lake"
        wait("all rows", lambda: server.sql(count)[0][0] == READINGS)
        equal(server.sql(count), [[READINGS, sum(temperature for _, temperature in sent), "farmer"]], "figures")
    with checks.check("rules: rows are in the table, by SQL and by key over HTTP"):
        rows = server.sql("SELECT ts, temperature FROM sensor_data WHERE sensor_id = '7' ORDER BY ts")
        expect(rows, "no row of sensor 7")
        # Of readings of one sensor in one millisecond, the key keeps the newest.
        for ts, temperature in rows:
            answer = server.request("GET", f"/tables/sensor_data/7/{ts}")
            equal(answer.status, 200, answer.text)
            row = answer.json()
            equal((row["sensor_id"], row["ts"], row["temperature"]), ("7", ts, temperature), "row by key")
            equal(row["place"], {"barn": 7}, "members of members")
        newest = max(temperature for sensor, temperature in sent if sensor == 7)
        equal(rows[-1][1], newest, "the newest reading is there")
        for path, status in (("/tables/sensor_data/7/0", 404), ("/tables/nothing/7", 404), ("/tables/sensor_data/7/x", 400)):
            equal(server.request("GET", path).status, status, path)
    with checks.check("rules: an AWS document delivers to table and lake"):
        wait("rows in farm_archive", lambda: server.one("SELECT count(*) FROM farm_archive") == READINGS)
        row = server.sql("SELECT received, _rest FROM archive WHERE device_type = 'sensors' LIMIT 1")[0]
        equal(set(json.loads(row[1])["payload"]["message"]), {"temperature", "place"}, "the message as a member")
        answer = server.request("GET", f"/tables/archive/sensors/{row[0]}")
        equal(answer.status, 200, answer.text)
    with checks.check("rules: a window closes with the right average"):
        total = "SELECT sum(n), sum(mean * n) FROM averages"
        wait("all readings in closed windows", lambda: server.sql(total)[0][0] == READINGS, 30)
        equal(round(server.sql(total)[0][1], 6), round(sum(temperature for _, temperature in sent), 6), "sum")
    with checks.check("rules: a payload that does not parse is counted and told, and stops nothing"):
        with Device(server) as farmer:
            farmer.publish("macdonald/sensors/bad", '{"temperature": ')
            farmer.publish("macdonald/sensors/good", '{"temperature": 1}')
        told = "SELECT message, topic FROM system.errors WHERE topic = 'macdonald/sensors/bad'"
        wait("the error", lambda: server.sql(told))
        wait("what came after it", lambda: server.one("SELECT count(*) FROM farm_lake WHERE _topic LIKE '%/good'") == 1)
    with checks.check("rules: system.rules tells what happened"):
        matched, passed, undefined = server.sql(
            "SELECT matched, passed, undefined FROM system.rules WHERE name = 'too_hot'"
        )[0]
        equal((matched, passed), (READINGS + 2, len(hot)), "matched, passed")
        expect("temperature" in json.loads(undefined), undefined)
    with checks.check("rules: deltalake sees the same rows once the file is closed"):
        folder = str(server.data / "lake" / "farm_lake")
        wait("the lake's folder", lambda: deltalake.DeltaTable.is_deltatable(folder))

        def rows():
            return deltalake.DeltaTable(folder).to_pyarrow_table()

        expected = server.one("SELECT count(*) FROM farm_lake")
        wait("all rows in closed files", lambda: rows().num_rows == expected)
        mine = server.sql("SELECT _offset, sensor_id, temperature FROM farm_lake ORDER BY _offset, sensor_id")
        theirs = rows().select(["_offset", "sensor_id", "temperature"]).to_pylist()
        equal(sorted([list(row.values()) for row in theirs], key=lambda row: row[0]), mine, "rows")
