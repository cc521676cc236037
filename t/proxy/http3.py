"""HTTP/3 by aioquic: reads one command a line from standard input, writes one answer a line.

A command is a JSON object; `do` names it, `conn` the connection that it is for. Usage:
http3.py PORT CA_FILE
"""

import asyncio
import json
import socket
import ssl
import sys
from functools import partial

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer, BufferReadError
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset

PATIENCE = 45
KEPT_BYTES = 4096


class Framing(H3Connection):
    """Knows that the answer to a HEAD may tell the length of a body that does not come."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.heads = set()

    def _check_content_length(self, stream):
        if stream.stream_id not in self.heads:
            super()._check_content_length(stream)


class Client(QuicConnectionProtocol):
    def __init__(self, *args, window=None, most=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.hold(window, most)
        self.deaf = False
        self.http = Framing(self._quic)
        self.streams = {}
        self.one_way = {}
        self.ended = asyncio.get_running_loop().create_future()

    def hold(self, window, most):
        """Lets a stream have a window of `window` bytes, and the connection one of `most`.

        aioquic opens every window again by itself; here, not those of the streams in `held`, and the
        connection's by `widen` only where it was given one.
        """
        quic, self.held = self._quic, set()
        write_stream, write_connection, limit = (
            quic._write_stream_limits,
            quic._write_connection_limits,
            quic._local_max_data,
        )
        if window is not None:
            quic._local_max_stream_data_bidi_local = window
        if most is not None:
            limit.value = limit.sent = most

        def stream_limits(builder, space, stream):
            if stream.stream_id not in self.held:
                write_stream(builder=builder, space=space, stream=stream)

        def connection_limits(builder, space):
            # Opened by what is used of it.
            used = limit.used
            limit.used = used if most is None else 0
            write_connection(builder=builder, space=space)
            limit.used = used

        quic._write_stream_limits, quic._write_connection_limits = stream_limits, connection_limits

    def datagram_received(self, data, addr):
        if not self.deaf:
            super().datagram_received(data, addr)

    def widen(self, count):
        self._quic._local_max_data.value += count
        self.transmit()

    async def trickle(self, count):
        while not self.ended.done():
            self.widen(count)
            await asyncio.sleep(0.05)

    def open(self):
        stream = self._quic.get_next_available_stream_id()
        done = asyncio.get_running_loop().create_future()
        interim = asyncio.get_running_loop().create_future()
        self.streams[stream] = {"done": done, "interim": interim, "body_bytes": 0, "body": b"", "zeros": True}
        return stream

    def quic_event_received(self, event):
        if isinstance(event, ConnectionTerminated):
            if not self.ended.done():
                self.ended.set_result(event.error_code)
            for stream in self.streams.values():
                self.finish(stream, closed=event.error_code)
        elif isinstance(event, StreamReset) and event.stream_id in self.streams:
            self.finish(self.streams[event.stream_id], reset=event.error_code)
        elif isinstance(event, StopSendingReceived) and event.stream_id in self.streams:
            self.streams[event.stream_id]["stopped"] = event.error_code
        elif isinstance(event, StreamDataReceived) and event.stream_id % 4 == 3:
            self.one_way[event.stream_id] = self.one_way.get(event.stream_id, b"") + event.data
        for event in self.http.handle_event(event):
            stream = self.streams.get(getattr(event, "stream_id", None))
            if stream is None:
                continue
            if isinstance(event, HeadersReceived) and dict(event.headers).get(b":status", b"").startswith(b"1"):
                stream["interim"].set_result(int(dict(event.headers)[b":status"]))
            elif isinstance(event, HeadersReceived):
                key = "trailers" if "headers" in stream else "headers"
                stream[key] = [[name.decode(), value.decode()] for name, value in event.headers]
            elif isinstance(event, DataReceived):
                stream["body_bytes"] += len(event.data)
                if stream["body_bytes"] <= KEPT_BYTES:
                    stream["body"] += event.data
            if event.stream_ended:
                self.finish(stream)

    def goaway(self):
        """What the GOAWAY says, which aioquic passes over; None if there is none."""
        for data in self.one_way.values():
            buffer = Buffer(data=data)
            if buffer.pull_uint_var() != 0:
                continue
            try:
                while not buffer.eof():
                    kind, payload = buffer.pull_uint_var(), buffer.pull_bytes(buffer.pull_uint_var())
                    if kind == 7:
                        return Buffer(data=payload).pull_uint_var()
            except BufferReadError:
                pass
        return None

    @staticmethod
    def finish(stream, **how):
        if not stream["done"].done():
            stream.update(how)
            stream["done"].set_result(None)

    def ask(self, headers, body=b"", parts=None, trailers=None, ends=True, held=False):
        stream = self.open()
        if held:
            self.held.add(stream)
        parts = parts or ([body] if body else [])
        is_last = ends and not parts and not trailers
        if (b":method", b"HEAD") in headers:
            self.http.heads.add(stream)
        self.http.send_headers(stream, headers, end_stream=is_last)
        for index, part in enumerate(parts):
            is_last = ends and not trailers and index + 1 == len(parts)
            self.http.send_data(stream, part, end_stream=is_last)
        if trailers:
            self.http.send_headers(stream, trailers, end_stream=True)
        self.transmit()
        return stream

    def raw(self, data, ends):
        stream = self.open()
        self._quic.send_stream_data(stream, data, end_stream=ends)
        self.transmit()
        return stream

    async def outcome(self, stream):
        stream = self.streams[stream]
        await asyncio.wait_for(stream["done"], PATIENCE)
        told = {key: stream[key] for key in ("headers", "trailers", "reset", "stopped", "closed") if key in stream}
        told["body_bytes"] = stream["body_bytes"]
        told["body"] = stream["body"].decode(errors="replace")
        for name, value in stream.get("headers", []):
            if name == ":status":
                told["status"] = int(value)
        return told


def udp(port):
    connected = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connected.connect(("127.0.0.1", port))
    return connected


def encoded(pairs):
    return [(name.encode(), value.encode()) for name, value in pairs or []]


async def command(clients, port, ca, told):
    what = told["do"]
    if what == "connect":
        configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], cafile=ca)
        configuration.server_name = told["name"]
        configuration.verify_mode = ssl.CERT_REQUIRED
        create = partial(Client, window=told.get("window"), most=told.get("most"))
        opening = connect("127.0.0.1", port, configuration=configuration, create_protocol=create)
        try:
            client = await asyncio.wait_for(opening.__aenter__(), PATIENCE)
        except (ConnectionError, OSError) as error:
            return {"refused": str(error)}
        clients[told["conn"]] = (client, opening)
        return {}
    if what == "half":
        # The first datagrams of handshakes that are not gone on with.
        half = clients.setdefault("half", udp(port))
        for _ in range(told["count"]):
            configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"])
            configuration.server_name = told["name"]
            begun = QuicConnection(configuration=configuration)
            begun.connect(("127.0.0.1", port), now=0.0)
            for datagram, _ in begun.datagrams_to_send(now=0.0):
                half.send(datagram)
            # Not faster than the gateway reads them.
            await asyncio.sleep(0.005)
        return {}
    client, _ = clients[told["conn"]]
    if what == "begin":
        parts = [b"x" * size for size in told.get("parts", [])]
        body = told.get("body", "").encode()
        stream = client.ask(
            encoded(told["headers"]),
            body,
            parts,
            encoded(told.get("trailers")),
            told.get("ends", True),
            told.get("held", False),
        )
        return {"stream": stream}
    if what == "raw":
        return {"stream": client.raw(bytes.fromhex(told["hex"]), told.get("ends", True))}
    if what == "more":
        client._quic.send_stream_data(told["stream"], bytes.fromhex(told["hex"]), told["ends"])
        client.transmit()
        return {}
    if what == "control":
        client._quic.send_stream_data(client.http._local_control_stream_id, bytes.fromhex(told["hex"]))
        client.transmit()
        return {}
    if what == "widen":
        client.widen(told["count"])
        return {}
    if what == "trickle":
        # Kept: nobody else holds on to a task.
        client.trickling = asyncio.create_task(client.trickle(told["count"]))
        return {}
    if what == "deaf":
        client.deaf = told["deaf"]
        return {}
    if what == "ping":
        await asyncio.wait_for(client.ping(), PATIENCE)
        return {}
    if what == "interim":
        return {"status": await asyncio.wait_for(client.streams[told["stream"]]["interim"], PATIENCE)}
    if what == "end":
        return await client.outcome(told["stream"])
    if what == "take_back":
        client._quic.reset_stream(told["stream"], 0x10C)
        client._quic.stop_stream(told["stream"], 0x10C)
        client.transmit()
        return {}
    if what == "take_all_back":
        for _ in range(told["most"]):
            if client.ended.done():
                break
            stream = client.ask(encoded(told["headers"]))
            await asyncio.sleep(0.005)
            client._quic.reset_stream(stream, 0x10C)
            client._quic.stop_stream(stream, 0x10C)
            client.transmit()
        return {}
    if what == "was_asked_twice":
        return {"retried": client._quic._retry_source_connection_id is not None}
    if what == "goaway":
        async with asyncio.timeout(PATIENCE):
            while client.goaway() is None:
                await asyncio.sleep(0.01)
        return {"id": client.goaway()}
    if what == "ended":
        return {"code": await asyncio.wait_for(client.ended, PATIENCE)}
    raise ValueError(what)


async def main():
    port, ca = int(sys.argv[1]), sys.argv[2]
    clients = {}
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        answer = await command(clients, port, ca, json.loads(line))
        print(json.dumps(answer), flush=True)


asyncio.run(main())
