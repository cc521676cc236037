"""HTTP/2 by h2 (hyper-h2), which checks what it is sent: runs requests over one connection and writes
what came of them as JSON. Usage: http2.py PORT [CA_FILE]; with CA_FILE over TLS, for test.com.
"""

import json
import random
import socket
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.settings import SettingCodes
from hpack import NeverIndexedHeaderTuple

PATIENCE = 45


class Client:
    def __init__(self, port, ca_file):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.scheme = "http"
        if ca_file:
            context = ssl.create_default_context(cafile=ca_file)
            context.set_alpn_protocols(["h2", "http/1.1"])
            self.socket = context.wrap_socket(self.socket, server_hostname="test.com")
            assert self.socket.selected_alpn_protocol() == "h2"
            self.scheme = "https"
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.told = {}
        self.flush()

    def flush(self):
        self.socket.sendall(self.http.data_to_send())

    def begin(self, method, path, ends=True, fields=()):
        stream = self.http.get_next_available_stream_id()
        head = [(":method", method), (":scheme", self.scheme), (":authority", "test.com"), (":path", path)]
        head.extend(fields)
        self.http.send_headers(stream, head, end_stream=ends)
        self.told[stream] = {"headers": [], "body": b"", "trailers": [], "over": False}
        self.flush()
        return stream

    def receive(self):
        received = self.socket.recv(65536)
        if not received:
            raise SystemExit("the connection has ended")
        for event in self.http.receive_data(received):
            told = self.told.get(getattr(event, "stream_id", None))
            if isinstance(event, ResponseReceived):
                told["headers"] = event.headers
            elif isinstance(event, TrailersReceived):
                told["trailers"] = event.headers
            elif isinstance(event, DataReceived):
                told["body"] += event.data
                self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                told["over"] = True
            elif isinstance(event, (StreamReset, ConnectionTerminated)):
                raise SystemExit(f"ended by {event}")
            elif isinstance(event, InformationalResponseReceived):
                pass
        self.flush()

    def send(self, stream, body):
        while body:
            size = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size, len(body))
            if size == 0:
                self.receive()
                continue
            self.http.send_data(stream, body[:size])
            self.flush()
            body = body[size:]

    def end(self, stream):
        while not self.told[stream]["over"]:
            self.receive()
        return self.told.pop(stream)


def status(told):
    return int(dict(told["headers"])[":status"])


def some_fields(chance):
    """Fields of all kinds: always the same, one of a few, never the same, empty, long, secret."""
    few = ["", *(f"value {at}" * at for at in range(1, 12))]
    fields = [("x-field-same", "the same each time")]
    fields += [(f"x-field-{chance.randrange(6)}", chance.choice(few)) for _ in range(chance.randrange(5))]
    fields.append(("x-field-number", str(chance.randrange(10**12))))
    if chance.random() < 0.3:
        bytes_of_all = "".join(chr(chance.choice([9, *range(32, 127)])) for _ in range(chance.randrange(300)))
        fields.append(("x-field-any", bytes_of_all.strip()))
    if chance.random() < 0.1:
        fields.append(("x-field-long", chance.choice("ab") * chance.randrange(1000, 5000)))
    if chance.random() < 0.2:
        fields.append(NeverIndexedHeaderTuple("x-field-secret", "hush"))
    return fields


def fields_come_back(client):
    """Has fields echoed, while both sides change the sizes of their tables of HPACK; says what the
    tables held at most."""
    chance = random.Random(7541)
    held = [0, 0]
    for turn in range(200):
        if turn % 4 == 3:
            sizes = chance.choices([0, 1, 64, 200, 1000, 4096, 65536], k=chance.choice([1, 1, 2]))
            for size in sizes:
                client.http.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
        if turn % 7 == 6:
            for size in chance.choices([0, 50, 300, 2000, 4096], k=chance.choice([1, 2])):
                client.http.encoder.header_table_size = size
        asked = {}
        for _ in range(4):
            fields = some_fields(chance)
            asked[client.begin("GET", "/fields", fields=fields)] = fields
        for stream, fields in asked.items():
            got = [tuple(field) for field in client.end(stream)["headers"] if field[0].startswith("x-field-")]
            assert sorted(got) == sorted(map(tuple, fields)), f"turn {turn}: {fields} became {got}"
        for at, coder in enumerate([client.http.encoder, client.http.decoder]):
            held[at] = max(held[at], len(coder.header_table.dynamic_entries))
    return held


def main():
    client = Client(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
    done = {}

    got = client.end(client.begin("GET", "/get"))
    done["get"] = [status(got), json.loads(got["body"])["method"]]

    sent = bytes(at * 7 % 251 for at in range(1 << 20))
    stream = client.begin("POST", "/echo", ends=False)
    client.send(stream, sent)
    client.http.end_stream(stream)
    client.flush()
    got = client.end(stream)
    done["post"] = [status(got), got["body"] == sent]

    streams = [client.begin("GET", f"/anything/{at}") for at in range(100)]
    uris = [json.loads(client.end(stream)["body"])["uri"] for stream in streams]
    done["many"] = uris == [f"/anything/{at}" for at in range(100)]

    stream = client.begin("POST", "/trailers", ends=False)
    client.send(stream, b"body")
    client.http.send_headers(stream, [("x-sum", "1")], end_stream=True)
    client.flush()
    got = client.end(stream)
    done["trailers"] = [status(got), got["body"].decode(), [list(field) for field in got["trailers"]]]

    done["tables were used"] = [held > 5 for held in fields_come_back(client)]

    client.http.close_connection()
    client.flush()
    print(json.dumps(done))


main()
