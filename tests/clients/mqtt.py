"""Devices as they are: paho with MQTT 3.1.1 and 5.

`HEDGEROW_TEST_TOPICS` says how many distinct topics one client makes up (120,000); the promise is about a million.
"""

import json
import os
import time

from device import V4, V5, Device
from harness import equal, expect, wait

NAMES = {V4: "3.1.1", V5: "5"}
TOPICS = int(os.environ.get("HEDGEROW_TEST_TOPICS", "120000"))


def run(checks, server):
    server.apply("mqtt", "CREATE RULE many AS SELECT topic(2) AS number FROM 'many/+/#' WHERE false INTO TOPIC 'never';")
    for version in (V4, V5):
        flow(checks, server, version)
        sessions(checks, server, version)
        refusals(checks, server, version)
        wills(checks, server, version)
        retained(checks, server, version)
        shared(checks, server, version)
    presence(checks, server)
    five(checks, server)
    carried(checks, server)
    many_topics(checks, server)


def flow(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    base = f"flow{version}"
    for qos in (0, 1, 2):
        with checks.check(f"{name}: QoS {qos} reaches a subscriber once"):
            with Device(server, version=version) as reader, Device(server, version=version) as writer:
                equal(reader.subscribe(f"{base}/{qos}/#", 2).value, 2, "granted QoS")
                for number in range(50):
                    writer.publish(f"{base}/{qos}/x", f"{number}", qos)
                equal(reader.payloads(50), [str(number) for number in range(50)], "messages in order")
                writer.publish(f"{base}/{qos}/x", "last", qos)
                message = reader.message()
                equal((message.payload, message.qos, message.retain), (b"last", qos, False), "nothing between")
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


def wills(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    topic = f"wills{version}/gone"
    with checks.check(f"{name}: a last will is said when the connection is lost, not after a farewell"):
        with Device(server, version=version) as reader:
            reader.subscribe(f"wills{version}/#", 2)
            Device(server, version=version, will=(topic, "no", 1, False)).leave()
            Device(server, version=version, will=(topic, "lost", 2, True)).break_off()
            message = reader.message()
            equal((message.payload, message.qos, message.retain), (b"lost", 2, False), "the will")
        with Device(server, version=version) as late:
            late.subscribe(topic)
            message = late.message()
            equal((message.payload, message.retain), (b"lost", True), "it was retained")
            late.publish(topic, b"", retain=True)
    with checks.check(f"{name}: a connection that takes the client id over lets the will of the first be said"):
        with Device(server, version=version) as reader:
            reader.subscribe(topic)
            first = Device(server, f"testator-{version}", version=version, will=(topic, "over", 0, False))
            with Device(server, f"testator-{version}", version=version):
                equal(reader.payloads(1), ["over"], "the will")
            first.client.loop_stop()


def retained(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    base = f"kept{version}"
    with checks.check(f"{name}: the last retained message of each topic is for later subscribers"):
        with Device(server, version=version) as writer:
            for qos in (0, 1, 2):
                writer.publish(f"{base}/{qos}", "old", qos, retain=True)
                writer.publish(f"{base}/{qos}", f"{qos}", qos, retain=True)
            with Device(server, version=version) as late:
                late.subscribe(f"{base}/+", 2)
                got = sorted((m.topic, m.payload, m.qos, m.retain) for m in (late.message() for _ in range(3)))
                equal(got, [(f"{base}/{qos}", b"%d" % qos, qos, True) for qos in (0, 1, 2)], "retained")
                writer.publish(f"{base}/1", b"", 1, retain=True)
                message = late.message()
                equal((message.payload, message.retain), (b"", False), "the deletion")
            with Device(server, version=version) as later:
                later.subscribe(f"{base}/#", 0)
                equal(sorted(later.payloads(2)), ["0", "2"], "what is left")
            for qos in (0, 2):
                writer.publish(f"{base}/{qos}", b"", retain=True)


def shared(checks, server, version):
    name = f"MQTT {NAMES[version]}"
    with checks.check(f"{name}: a shared subscription gives each message to one member, in turn"):
        topic = f"shared{version}/x"
        with Device(server, version=version) as one, Device(server, version=version) as two:
            for member in (one, two):
                equal(member.subscribe(f"$share/group/{topic}").value, 1, "granted")
            with Device(server, version=version) as writer:
                writer.publish_all((topic, f"{number}") for number in range(100))
            got = one.payloads(50) + two.payloads(50)
            equal(sorted(got, key=int), [str(number) for number in range(100)], "each message once")


def presence(checks, server):
    with checks.check("presence: events of a connection, and system.connections"):
        with Device(server, version=V5) as watcher:
            watcher.subscribe("$aws/events/+/+/watched")
            with Device(server, "watched", version=V4) as watched:
                watched.subscribe("watched/#")
                row = server.sql("SELECT session_identifier, version_number FROM system.connections WHERE client_id = 'watched'")
            events = [json.loads(watcher.message().payload) for _ in range(3)]
            equal([event["eventType"] for event in events], ["connected", "subscribed", "disconnected"], "events")
            first, subscribed, last = events
            equal(row, [[first["sessionIdentifier"], first["versionNumber"]]], "the connection")
            equal((last["sessionIdentifier"], last["versionNumber"]), tuple(row[0]), "its end")
            equal((last["disconnectReason"], last["clientInitiatedDisconnect"]), ("CLIENT_INITIATED_DISCONNECT", True), "why")
            equal(subscribed["topics"], ["watched/#"], "filters")
            logged = server.sql("SELECT count(*) FROM ingest_log WHERE topic = '$aws/events/presence/connected/watched'")
            equal(logged, [[1]], "the log has it")
    with checks.check("presence: no client can speak for it"):
        with Device(server, version=V5) as client:
            mid = client.send("$aws/events/presence/connected/x", "{}")
            equal(client.answer(mid).value, 0x90, "reason")


def five(checks, server):
    with checks.check("MQTT 5: a delayed will is void if the session is taken up in time"):
        session = {"version": V5, "clean": False, "expiry": 3600}
        with Device(server, version=V5) as reader:
            reader.subscribe("late/#")
            Device(server, "late", will=("late/w", "no", 1, False), will_delay=3600, **session).break_off()
            with Device(server, "late", **session) as again:
                expect(again.session_present, "the session is gone")
            # A session that ends takes the will with it at once.
            Device(server, "late", will=("late/w", "ended", 1, False), will_delay=3600, **session).break_off()
            Device(server, "late", version=V5, clean=True).leave()
            equal(reader.payloads(1), ["ended"], "the will of the session that ended, and no other")
    with checks.check("MQTT 5: subscription identifiers, no local, retain handling"):
        with Device(server, version=V5) as client, Device(server, version=V5) as other:
            other.publish("options/x", "kept", retain=True)
            client.subscribe("options/#", 1, identifier=7, noLocal=True, retainHandling=2)
            client.publish("options/x", "mine")
            other.publish("options/x", "theirs")
            message = client.message()
            equal((message.payload, message.properties.SubscriptionIdentifier), (b"theirs", [7]), "the other's message")
            client.subscribe("options/x", 0, retainAsPublished=True, retainHandling=1)
            equal(client.message().retain, True, "the retained one")
            other.publish("options/x", b"", retain=True)
            equal(client.message().retain, True, "as published")


def many_topics(checks, server):
    with checks.check(f"{TOPICS:,} distinct topics, and the memory stays bounded"):
        padding = "x" * 1000
        # Packet ids, and with them what paho may hold, end at 65,535.
        part = 40_000
        reached = "SELECT matched FROM system.rules WHERE name = 'many'"
        with Device(server, version=V5, max_inflight=1000) as writer, Device(server) as reader:
            reader.subscribe("many/+/#", 0)
            sizes = []
            for first in range(0, TOPICS, part):
                last = min(first + part, TOPICS)
                begun = time.monotonic()
                writer.publish_all((f"many/{number}/{padding}", "{}") for number in range(first, last))
                wait("all messages through the rules", lambda: server.one(reached) == last, 300)
                sizes.append(server.rss_mib())
                if TOPICS > 10 * part:
                    rate = (last - first) / (time.monotonic() - begun)
                    print(f"       {last:,} topics: {sizes[-1]:.0f} MiB; {rate:.0f} a second", flush=True)
            # Every cache of topics is full after the first part: the largest takes 32 MiB. Kept once, the topics of the
            # others would be a kilobyte each; a cache that was just emptied may grow by its 32 MiB.
            grown = sizes[-1] - sizes[0]
            print(f"       {sizes[0]:.0f} MiB after {part:,} topics, {grown:+.0f} MiB after {TOPICS - part:,} more")
            expect(grown < 56, f"memory grew by {grown:.0f} MiB")
