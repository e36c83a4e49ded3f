"""Whose address counts."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.xrpc.asgi import Front
from appliance.xrpc.peer import named_by_proxy


def asked_by(peer: str | None, *forwarded: bytes) -> Any:
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/login",
        "headers": [(b"x-forwarded-for", value) for value in forwarded],
    }
    return scope if peer is None else {**scope, "client": (peer, 4711)}


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        ("127.0.0.1", [b"192.0.2.1"], "192.0.2.1"),
        ("::1", [b"2001:DB8::7"], "2001:db8::7"),
        (None, [b"192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", [b"10.0.0.1, 192.0.2.2"], "192.0.2.2"),
        ("127.0.0.1", [b"10.0.0.1", b" 192.0.2.3 "], "192.0.2.3"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [b"unknown"], "127.0.0.1"),
        ("127.0.0.1", [b"192.0.2.1, \xff\x00"], "127.0.0.1"),
        ("127.0.0.1", [b""], "127.0.0.1"),
        ("198.51.100.9", [b"192.0.2.1"], "198.51.100.9"),
    ],
)
def test_only_a_proxy_on_this_machine_names_the_caller(
    peer: str | None, forwarded: list[bytes], caller: str
) -> None:
    assert named_by_proxy(asked_by(peer, *forwarded))["client"][0] == caller


async def test_whatever_stands_behind_the_front_sees_the_caller() -> None:
    seen: list[str] = []

    async def rest(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    async def nothing(*_: Any, **__: Any) -> Any:
        raise AssertionError("nobody is asked who he is")

    front = Front([], nothing, default_labelers=(), rest=rest, rest_has=lambda nsid: True)
    for path in ("/api/auth/login", "/xrpc/com.atproto.server.createSession"):
        await front({**asked_by("127.0.0.1", b"192.0.2.1"), "path": path}, nothing, nothing)
    assert seen == ["192.0.2.1"] * 2
