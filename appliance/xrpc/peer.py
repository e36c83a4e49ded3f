"""Whose address a request comes from, also where a reverse proxy on this machine stands between."""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from typing import Any

_HERE = frozenset({"", "127.0.0.1", "::1"})


def named_by_proxy(scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The scope with the caller's address as its ``client``.

    Only a proxy on this machine is believed, and only the last address of its list: that one is its own
    word, those before it are the caller's.
    """
    peer: str = (scope.get("client") or ("",))[0]
    if peer not in _HERE:
        return scope
    named = [value for name, value in scope["headers"] if name.lower() == b"x-forwarded-for"]
    if not named:
        return scope
    try:
        address = ipaddress.ip_address(named[-1].decode("latin-1").rpartition(",")[2].strip())
    except ValueError:
        return scope
    return {**scope, "client": (str(address), 0)}
