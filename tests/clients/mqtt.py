"""Devices as they are: paho with MQTT 3.1.1 and 5."""

import paho.mqtt.client as paho

from device import V4, V5, Device
from harness import equal, expect, wait

NAMES = {V4: "3.1.1", V5: "5"}


def run(checks, server):
    server.apply("mqtt", "CREATE RULE many AS SELECT topic(2) AS number FROM 'many/+/#' WHERE false INTO TOPIC 'never';")
    for version in (V4, V5):
        flow(checks, server, version)
        sessions(checks, server, version)
        refusals(checks, server, version)
    carried(checks, server)
    many_topics(checks, server)


def flow(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    base = f"flow{version}"
    for qos in (0, 1, 2):
        with checks.check(f"{name}: QoS {qos} reaches a subscriber once"):
            with Device(server, version=version) as reader, Device(server, version=version) as writer:
                equal(reader.subscribe(f"{base}/{qos}/#").value, 1, "granted QoS")
                for number in range(50):
                    writer.publish(f"{base}/{qos}/x", f"{number}", qos)
                equal(reader.payloads(50), [str(number) for number in range(50)], "messages in order")
                writer.publish(f"{base}/{qos}/x", "last", qos)
                message = reader.message()
                equal((message.payload, message.qos, message.retain), (b"last", min(qos, 1), False), "nothing between")
    with checks.check(f"{name}: topics and payloads of any text and bytes"):
        with Device(server, version=version) as client:
            client.subscribe(f"{base}/text/#")
            for topic in ("é/x", "温度", "a b", "", "/", "x" * 900):
                payload = bytes(range(256)) + topic.encode()
                client.publish(f"{base}/text/{topic}", payload)
                message = client.message()
                equal((message.topic, message.payload), (f"{base}/text/{topic}", payload), "as it was sent")
            client.publish(f"{base}/text/none", b"")
            equal(client.message().payload, b"", "the empty payload")
    with checks.check(f"{name}: wildcards leave topics that begin with $ alone"):
        with Device(server, version=version) as client:
            client.subscribe("#")
            client.subscribe("+/hidden")
            client.publish("$mine/hidden", "hidden")
            client.publish(f"{base}/dollar", "seen")
            equal(wait_for(client, f"{base}/dollar"), [], "topics with $ that came through a wildcard")
            client.subscribe("$mine/#")
            client.publish("$mine/hidden", "asked for")
            wait("the topic, by its name", lambda: client.message().topic == "$mine/hidden")
    with checks.check(f"{name}: nothing comes after UNSUBSCRIBE"):
        with Device(server, version=version) as client:
            client.subscribe(f"{base}/gone")
            client.subscribe(f"{base}/mark")
            client.publish(f"{base}/gone", "one")
            equal(client.payloads(1), ["one"], "before")
            client.unsubscribe(f"{base}/gone")
            client.publish(f"{base}/gone", "two")
            client.publish(f"{base}/mark", "three")
            equal(client.payloads(1), ["three"], "after")
    with checks.check(f"{name}: keep-alive 0 connects and stays"):
        with Device(server, version=version, keepalive=0) as client:
            client.subscribe(f"{base}/keep")
            client.publish(f"{base}/keep", "there")
            equal(client.payloads(1), ["there"], "message")


def wait_for(client, topic):
    """The `$` topics that come before the message of `topic`."""
    hidden = []
    while (message := client.message()).topic != topic:
        if message.topic.startswith("$"):
            hidden.append(message.topic)
    return hidden


def sessions(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    keep = {"version": version, "clean": False, "expiry": 3600}
    with checks.check(f"{name}: a persistent session gets what came while it was away, in order and once"):
        topic, client_id = f"session{version}/queued", f"sleeper-{version}"
        with Device(server, client_id, **keep) as first:
            expect(not first.session_present, "a session that nobody made")
            first.subscribe(topic)
        with Device(server, version=version) as writer:
            writer.publish_all((topic, f"{number}") for number in range(200))
        with Device(server, client_id, **keep) as second:
            expect(second.session_present, "the session is gone")
            equal(second.payloads(200), [str(number) for number in range(200)], "queued messages")
            second.publish(topic, "live")
            equal(second.payloads(1), ["live"], "nothing twice")
        with Device(server, client_id, version=version, clean=True) as third:
            expect(not third.session_present, "a clean start has a session")
            third.subscribe(f"session{version}/mark")
            third.publish(topic, "unheard")
            third.publish(f"session{version}/mark", "heard")
            equal(third.payloads(1), ["heard"], "no old subscription")
    with checks.check(f"{name}: a second connection takes the client id over, and its session"):
        topic, client_id = f"session{version}/taken", f"taken-{version}"
        first = Device(server, client_id, **keep)
        first.subscribe(topic)
        with Device(server, client_id, **keep) as second:
            reason = first.reason_of_end()
            if version == V5:
                equal(reason.value, 0x8E, "the first one is told why")
            expect(second.session_present, "the session was not taken over")
            second.publish(topic, "mine")
            equal(second.payloads(1), ["mine"], "the subscription came along")
        first.client.loop_stop()


def refusals(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    with checks.check(f"{name}: a topic that is too long ends the connection, with a reason where there is one"):
        client = Device(server, version=version)
        client.send("x" * 1500, "long")
        reason = client.reason_of_end()
        if version == V5:
            equal(reason.value, 0x90, f"reason ({reason})")
        client.client.loop_stop()
    with checks.check(f"{name}: a reserved topic is refused"):
        client = Device(server, version=version)
        mid = client.send("$SYS/mine", "no")
        if version == V5:
            equal(client.answer(mid).value, 0x90, "reason")
            client.publish("fine/again", "the connection stays")
            client.leave()
        else:
            client.reason_of_end()
            client.client.loop_stop()
    with checks.check(f"{name}: a shared subscription is refused, others beside it are not"):
        with Device(server, version=version) as client:
            equal(client.subscribe("$share/group/a").value, 0x80 if version == V4 else 0x9E, "shared")
            equal(client.subscribe("a/b").value, 1, "ordinary")


def carried(checks, server):
    with checks.check("MQTT 5: properties are carried to subscribers"):
        with Device(server, version=V5) as reader, Device(server, version=V5) as writer:
            reader.subscribe("carried/#")
            pairs = [("unit", "°C"), ("unit", "K"), ("", "empty name")]
            writer.publish(
                "carried/x",
                '{"a": 1}',
                UserProperty=pairs,
                ContentType="application/json",
                ResponseTopic="carried/answers",
                CorrelationData=b"\x00\xff id",
                PayloadFormatIndicator=1,
                MessageExpiryInterval=600,
            )
            had = reader.message().properties
            equal(had.UserProperty, pairs, "user properties")
            equal(had.ContentType, "application/json", "content type")
            equal(had.ResponseTopic, "carried/answers", "response topic")
            equal(had.CorrelationData, b"\x00\xff id", "correlation data")
            equal(had.PayloadFormatIndicator, 1, "payload format")
            expect(590 <= had.MessageExpiryInterval <= 600, f"expiry {had.MessageExpiryInterval}")
            with Device(server, version=V4) as old:
                old.subscribe("carried/#")
                writer.publish("carried/y", "plain", UserProperty=pairs)
                equal(old.payloads(1), ["plain"], "a 3.1.1 client gets the message without them")
    with checks.check("MQTT 5: a topic alias of the client stands for its topic"):
        with Device(server, version=V5) as client:
            client.subscribe("alias/#")
            client.publish("alias/long/name", "one", TopicAlias=3)
            client.publish("alias/other", "two", TopicAlias=4)
            equal([client.message().topic for _ in range(2)], ["alias/long/name", "alias/other"], "topics")
    with checks.check("MQTT 5: a last will and a retained message are refused with a reason"):
        will = paho.Client(paho.CallbackAPIVersion.VERSION2, protocol=V5, reconnect_on_failure=False)
        will.will_set("will/x", "gone")
        codes = []
        will.on_connect = lambda _c, _u, _f, code, _p: codes.append(code)
        will.connect(*server.mqtt)
        will.loop_start()
        wait("CONNACK", lambda: codes)
        will.loop_stop()
        equal(codes[0].value, 0x83, "last will")
        client = Device(server, version=V5)
        client.client.publish("kept/x", "kept", 1, retain=True)
        equal(client.reason_of_end().value, 0x9A, "retained")
        client.client.loop_stop()


def many_topics(checks, server):
    with checks.check("120,000 distinct topics, and the memory stays bounded"):
        padding = "x" * 1000
        with Device(server, version=V5, max_inflight=1000) as writer, Device(server) as reader:
            reader.subscribe("many/+/#", 0)

            def publish(first, last):
                writer.publish_all((f"many/{number}/{padding}", "{}") for number in range(first, last))
                reached = "SELECT matched FROM system.rules WHERE name = 'many'"
                wait("all messages through the rules", lambda: server.one(reached) == last, 60)

            # Every cache of topics is full by then: the largest takes 32 MiB.
            publish(0, 40_000)
            before = server.rss_mib()
            # Packet ids, and with them what paho may hold, end at 65,535.
            publish(40_000, 80_000)
            publish(80_000, 120_000)
            grown = server.rss_mib() - before
            # Kept once, these topics would be 80 MiB; a cache that was just emptied may grow by its 32.
            print(f"       {before:.0f} MiB after 40,000 topics, {grown:+.0f} MiB after 80,000 more")
            expect(grown < 56, f"memory grew by {grown:.0f} MiB")
