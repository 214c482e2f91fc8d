"""An MQTT client, by paho, that waits for every answer."""

import queue
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from harness import Failed, expect

V4, V5 = paho.MQTTv311, paho.MQTTv5
WAIT = 20.0


def properties(packet, **values):
    """MQTT 5 properties of a packet, by paho's names."""
    made = Properties(packet)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Device:
    """One connection. Messages that come in are in `messages`."""

    def __init__(self, server, client_id="", version=V4, clean=True, expiry=0, keepalive=60, max_inflight=200, will=None, will_delay=0):
        """`will`: topic, payload, QoS, retain."""
        self.messages = queue.Queue()
        self.version = version
        self.connected = queue.Queue()
        self.disconnected = queue.Queue()
        self.granted = queue.Queue()
        self.unsubscribed = queue.Queue()
        self.acknowledged = {}
        self.waiting = threading.Condition()
        extra = {"clean_session": clean} if version == V4 else {}
        self.client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=version, reconnect_on_failure=False, **extra
        )
        self.client.max_inflight_messages_set(max_inflight)
        self.client.on_connect = lambda _c, _u, flags, code, _p: self.connected.put((flags.session_present, code))
        self.client.on_disconnect = lambda _c, _u, _f, code, _p: self.disconnected.put(code)
        self.client.on_message = lambda _c, _u, message: self.messages.put(message)
        self.client.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put(codes)
        self.client.on_unsubscribe = lambda _c, _u, _m, codes, _p: self.unsubscribed.put(codes)
        self.client.on_publish = self._acknowledge
        if will:
            delay = {"properties": properties(PacketTypes.WILLMESSAGE, WillDelayInterval=will_delay)}
            self.client.will_set(*will, **(delay if version == V5 else {}))
        how = {"keepalive": keepalive}
        if version == V5:
            how["clean_start"] = clean
            how["properties"] = properties(PacketTypes.CONNECT, SessionExpiryInterval=expiry)
        self.client.connect(*server.mqtt, **how)
        self.client.loop_start()
        self.session_present, code = self._take(self.connected, "CONNACK")
        expect(not code.is_failure, f"CONNECT refused: {code}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def _acknowledge(self, _client, _user, mid, code, _properties):
        with self.waiting:
            self.acknowledged[mid] = code
            self.waiting.notify_all()

    @staticmethod
    def _take(source, what, seconds=WAIT):
        try:
            return source.get(timeout=seconds)
        except queue.Empty:
            raise Failed(f"no {what} within {seconds:.0f} s") from None

    def leave(self):
        """DISCONNECT, and the end of the thread."""
        self.client.disconnect()
        self.client.loop_stop()

    def break_off(self):
        """Closes the socket without a DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()

    def send(self, topic, payload, qos=1, retain=False, **values):
        """PUBLISH, without waiting."""
        made = properties(PacketTypes.PUBLISH, **values) if values else None
        return self.client.publish(topic, payload, qos, retain=retain, properties=made).mid

    def answer(self, mid, seconds=WAIT):
        """The reason code of a message's acknowledgement."""
        with self.waiting:
            if not self.waiting.wait_for(lambda: mid in self.acknowledged, seconds):
                raise Failed(f"message {mid} was not acknowledged within {seconds:.0f} s")
            return self.acknowledged[mid]

    def publish(self, topic, payload, qos=1, retain=False, **values):
        """PUBLISH, and wait until it is acknowledged."""
        code = self.answer(self.send(topic, payload, qos, retain, **values))
        expect(not code.is_failure, f"PUBLISH to {topic} refused: {code}")

    def publish_all(self, messages, qos=1):
        """Publishes pairs of topic and payload as fast as they are acknowledged."""
        for mid in [self.send(topic, payload, qos) for topic, payload in messages]:
            code = self.answer(mid, 60)
            expect(not code.is_failure, f"a PUBLISH was refused: {code}")

    def subscribe(self, topic, qos=1, identifier=None, **options):
        """SUBSCRIBE; the answer's reason code. `identifier` and options are MQTT 5's."""
        if self.version == V5:
            made = properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=identifier) if identifier else None
            self.client.subscribe(topic, options=SubscribeOptions(qos=qos, **options), properties=made)
        else:
            self.client.subscribe(topic, qos)
        return self._take(self.granted, "SUBACK")[0]

    def unsubscribe(self, topic):
        """UNSUBSCRIBE, and wait for the answer."""
        self.client.unsubscribe(topic)
        self._take(self.unsubscribed, "UNSUBACK")

    def message(self, seconds=WAIT):
        """The next message."""
        return self._take(self.messages, "message", seconds)

    def payloads(self, count, seconds=WAIT):
        """The next payloads, as text."""
        return [self.message(seconds).payload.decode() for _ in range(count)]

    def reason_of_end(self):
        """Why the connection ended."""
        return self._take(self.disconnected, "end of the connection")
