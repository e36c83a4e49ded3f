"""Sends prepared websocket frames as fast as the other side reads: a process of its own, little work.

Usage: python -m bench.replay_server FRAMES_FILE; prints the port it listens on.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
from pathlib import Path

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # https://www.rfc-editor.org/rfc/rfc6455#section-1.3


def framed(payload: bytes) -> bytes:
    """One unmasked binary message."""
    if len(payload) < 126:
        return b"\x82" + bytes([len(payload)]) + payload
    if len(payload) < 65536:
        return b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload
    return b"\x82\x7f" + len(payload).to_bytes(8, "big") + payload


def main(file: Path) -> None:
    frames = memoryview(file.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                headers = dict(
                    line.split(b": ", 1) for line in request.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
                )
                key = {name.lower(): value for name, value in headers.items()}[b"sec-websocket-key"]
                accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
                answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                try:
                    connection.sendall(answer + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                    connection.sendall(frames)
                    while connection.recv(65536):
                        pass
                except OSError:
                    continue


if __name__ == "__main__":
    main(Path(sys.argv[1]))
