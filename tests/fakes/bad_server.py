"""A server that does with each connection what it is told: for commands that ask a controller."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

Connection = socket.socket
Behaviour = Callable[[Connection, threading.Event], None]
"""``Event``: the test is over."""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def asked(connection: Connection) -> None:
    """Reads the head of the request."""
    with contextlib.suppress(OSError):
        got = b""
        while b"\r\n\r\n" not in got:
            more = connection.recv(65536)
            if not more:
                return
            got += more


def says(text: bytes) -> Behaviour:
    """Answers with exactly this, and closes."""

    def behave(connection: Connection, _: threading.Event) -> None:
        asked(connection)
        connection.sendall(text)

    return behave


def body(content: bytes, *, head: bytes = OK) -> Behaviour:
    """A whole answer."""
    return says(head + b"Content-Length: %d\r\n\r\n" % len(content) + content)


def hangs_after(text: bytes) -> Behaviour:
    """Sends this, and then nothing."""

    def behave(connection: Connection, over: threading.Event) -> None:
        asked(connection)
        connection.sendall(text)
        over.wait(300)

    return behave


def never_reads(_: Connection, over: threading.Event) -> None:
    """Accepts and says nothing, not even a TLS greeting."""
    over.wait(300)


def again_and_again(text: bytes, piece: bytes, every_s: float) -> Behaviour:
    """``piece`` for ever."""

    def behave(connection: Connection, over: threading.Event) -> None:
        asked(connection)
        connection.sendall(text)
        while not over.wait(every_s):
            connection.sendall(piece)

    return behave


def resets_after(text: bytes) -> Behaviour:
    def behave(connection: Connection, _: threading.Event) -> None:
        asked(connection)
        connection.sendall(text)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return behave


@contextlib.contextmanager
def bad_server(behave: Behaviour) -> Iterator[str]:
    """``127.0.0.1:PORT`` of it."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def serve(connection: Connection) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(60)
            behave(connection, over)

    def accept() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.settimeout(0.05)
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            accepting.join()
            for thread in threads:
                thread.join()
