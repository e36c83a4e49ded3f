"""What DNS says is read with bounds."""

from typing import Any

import dns.exception
import dns.rdata
import dns.resolver
import pytest

from appliance.errors import BadInput, Unavailable
from appliance.outbound.names import ADDRESSES_MAX, TEXT_BYTES_MAX, TEXTS_MAX, SystemNames


class Resolver:
    """Gives real records, or fails as a resolver does."""

    def __init__(self, *texts: str, kind: str = "TXT", fails: Exception | None = None) -> None:
        self.records = [dns.rdata.from_text("IN", kind, text) for text in texts]
        self.fails = fails
        self.asked: list[tuple[str, str, float]] = []

    async def resolve(self, name: Any, kind: str, *, lifetime: float, search: bool) -> list[Any]:
        self.asked.append((str(name), kind, lifetime))
        assert not search
        if self.fails is not None:
            raise self.fails
        return self.records


def names(resolver: Resolver) -> SystemNames:
    made = SystemNames()
    made._resolver = resolver
    return made


def failing(kind: Any) -> Exception:
    failure: Exception = kind()
    return failure


async def test_t86_whatever_dns_says_is_read_with_bounds() -> None:
    assert await names(Resolver('"did=did:plc" ":abc"', '"v=spf1"')).texts("a.test") == [
        "did=did:plc:abc",
        "v=spf1",
    ]
    assert await names(Resolver(r'"\255\254"')).texts("a.test") == ["\ufffd\ufffd"]
    for hostile in (['"x"'] * (TEXTS_MAX + 1), ['"' + "x" * 255 + '" ' * 1] * (TEXT_BYTES_MAX // 255 + 1)):
        with pytest.raises(BadInput):
            await names(Resolver(*hostile)).texts("a.test")
    with pytest.raises(BadInput):
        await names(Resolver(*["192.0.2.1"] * (ADDRESSES_MAX + 1), kind="A")).addresses("a.test")
    assert await names(Resolver(fails=failing(dns.resolver.NXDOMAIN))).texts("a.test") == []
    # A chain of names without end, silence, a server that fails: nobody knows.
    for failure in (
        failing(dns.exception.Timeout),
        failing(dns.resolver.NoNameservers),
        failing(dns.exception.DNSException),
        OSError(),
    ):
        with pytest.raises(Unavailable):
            await names(Resolver(fails=failure)).texts("a.test")
    for nonsense in ("a..b", "x" * 64 + ".test", "x." * 200 + "test"):
        with pytest.raises(BadInput):
            await names(Resolver()).texts(nonsense)
    asked = Resolver()
    await names(asked).texts("_atproto.a.test")
    assert asked.asked[0][0] == "_atproto.a.test."
    assert asked.asked[0][2] <= 5
