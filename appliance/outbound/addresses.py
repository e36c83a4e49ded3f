"""Which URLs and addresses may be spoken to.

Rules SF-1 to SF-4: names only, one lookup, every answer checked against our own list, since
``ipaddress.is_global`` lets multicast, 6to4, NAT64 and others through.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, urlencode, urlsplit

from appliance.errors import BadInput

Ports = Literal["https", "web", "origin", "any"]
Params = dict[str, str | int | list[str] | list[int]]

URL_CHARS_MAX = 64_000
_PRINTABLE = re.compile(r"[!-\[\]-~]+")  # no space, control, backslash or anything beyond ASCII
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LAST_LABEL = re.compile(r"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
_LOCAL_ZONES = frozenset(
    [
        "local",
        "localhost",
        "internal",
        "lan",
        "home",
        "intranet",
        "private",
        "corp",
        "test",
        "invalid",
        "example",
        "onion",
        "alt",
    ]
)
_LOCAL_SUFFIXES = (".home.arpa", ".in-addr.arpa", ".ip6.arpa")
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1"})

# Databases, caches, queues, remote desktops: things beside which no PDS listens on purpose.
_SERVICE_PORTS = frozenset(
    {1080, 1433, 1521, 1883, 2049, 2181, 2375, 2376, 2379, 2380, 3128, 3306, 3389, 4369, 5432, 5433, 5672}
    | {5900, 5984, 6000, 6379, 6443, 7000, 7001, 8086, 8125, 8500, 9042, 9092, 9100, 9200, 9300, 10250}
    | {11211, 15672, 25565, 26257, 27017, 27018, 33060}
)

_DENIED_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in [
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    ]
)
_ALLOWED_V6 = ipaddress.IPv6Network("2000::/3")
_DENIED_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in ["2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"]
)
# Cloud metadata services that have public-looking addresses.
_METADATA = frozenset({"168.63.129.16", "100.100.100.200", "fd00:ec2::254"})
_METADATA_NAMES = frozenset({"metadata.google.internal", "instance-data.ec2.internal"})


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked, taken apart; ``url`` is rebuilt from the parts."""

    url: str
    scheme: str
    host: str
    port: int
    loopback: bool

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator's settings say about addresses."""

    allow_loopback: bool = False
    own_names: frozenset[str] = frozenset()

    def target(self, url: str, ports: Ports, params: Params | None = None) -> Target:
        """Take a URL apart and judge everything but the address behind its name. Raises BadInput."""
        # Before parsing: urlsplit drops tabs and line breaks, and browsers disagree on backslashes.
        if len(url) > URL_CHARS_MAX or not _PRINTABLE.fullmatch(url):
            raise BadInput("the address holds characters that don't belong there")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadInput("the address can't be read") from error
        host = (parts.hostname or "").lower()
        if "@" in parts.netloc or not host:
            raise BadInput("the address has no plain host")
        secure = parts.scheme in ("https", "wss")
        loopback = self.allow_loopback and host in _LOOPBACK_NAMES
        if not secure and not (
            parts.scheme in ("http", "ws") and (loopback or (ports == "web" and parts.scheme == "http"))
        ):
            raise BadInput("the address must use https")
        if not loopback:
            self.check_name(host)
        if port is None:
            port = 443 if secure else 80
        if not loopback and not _port_allowed(port, ports):
            raise BadInput("the address uses a port that is not allowed")
        query = _query(parts.query, params)
        netloc = host if port == (443 if secure else 80) else f"{host}:{port}"
        path = parts.path or "/"
        rebuilt = f"{parts.scheme}://{netloc}{path}" + (f"?{query}" if query else "")
        if len(rebuilt) > URL_CHARS_MAX:
            raise BadInput("the address is too long")
        return Target(rebuilt, parts.scheme, host, port, loopback)

    def check_name(self, host: str) -> None:
        """Refuse what isn't a public host name, IP addresses in any spelling included."""
        labels = host.split(".")
        good = (
            len(labels) >= 2
            and len(host) <= 253
            and all(_LABEL.fullmatch(label) for label in labels)
            and _LAST_LABEL.fullmatch(labels[-1])
        )
        if not good:
            raise BadInput("the address needs a public host name")
        if (
            labels[-1] in _LOCAL_ZONES
            or f".{host}".endswith(_LOCAL_SUFFIXES)
            or host in _METADATA_NAMES
            or host in self.own_names
        ):
            raise BadInput("the address is not a public one")

    def check_addresses(self, addresses: list[str]) -> list[str]:
        """The addresses, IPv4 first, if every one of them is public. Raises BadInput."""
        if not all(is_public(address) and not _is_ours(address) for address in addresses):
            raise BadInput("the address is not a public one")
        return sorted(addresses, key=lambda address: ":" in address)


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public unicast internet."""
    if "%" in address or address in _METADATA:
        return False
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        return ip in _ALLOWED_V6 and not any(ip in network for network in _DENIED_V6)
    return not any(ip in network for network in _DENIED_V4)


def with_params(url: str, params: Params) -> str:
    """The URL with these parameters behind those that it has."""
    bare, _, query = url.partition("?")
    return f"{bare}?{_query(query, params)}"


def _query(query: str, params: Params | None) -> str:
    if not params:
        return query
    more = urlencode(params, doseq=True, quote_via=quote, safe="")
    return f"{query}&{more}" if query else more


def _port_allowed(port: int, ports: Ports) -> bool:
    match ports:
        case "https":
            return port == 443
        case "web":
            return port in (80, 443)
        case "origin":
            return port == 443 or (port >= 1024 and port not in _SERVICE_PORTS)
        case "any":
            return port > 0


def _is_ours(address: str) -> bool:
    """Whether one of this machine's interfaces has that address: only then can it be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return True
    return False
