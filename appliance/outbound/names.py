"""Questions to the domain name system, with limits of our own."""

from __future__ import annotations

from typing import Any, Protocol

from appliance.errors import BadInput, Unavailable

LOOKUP_S = 3.0
ADDRESSES_MAX = 32
TEXTS_MAX = 16
TEXT_BYTES_MAX = 2048
CACHE_NAMES_MAX = 20_000


class Names(Protocol):
    """Answers for names. Tests put their own in place."""

    async def addresses(self, host: str) -> list[str]:
        """Every IPv4 and IPv6 address. Empty: the name has none. Raises Unavailable: no answer."""
        ...

    async def texts(self, name: str) -> list[str]:
        """Every TXT record, its parts joined. Empty: there is none. Raises Unavailable: no answer."""
        ...


class SystemNames:
    """The servers of the machine's resolv.conf."""

    def __init__(self) -> None:
        self._resolver: Any = None

    async def addresses(self, host: str) -> list[str]:
        found: list[str] = []
        for kind in ("A", "AAAA"):
            found += [str(record) for record in await self._ask(host, kind)]
        if len(found) > ADDRESSES_MAX:
            raise BadInput("the name has too many addresses")
        return found

    async def texts(self, name: str) -> list[str]:
        records = await self._ask(name, "TXT")
        if len(records) > TEXTS_MAX:
            raise BadInput("the name has too many TXT records")
        texts = [b"".join(record.strings) for record in records]
        if sum(map(len, texts)) > TEXT_BYTES_MAX:
            raise BadInput("the name's TXT records are too long")
        return [text.decode("utf-8", "replace") for text in texts]

    async def _ask(self, name: str, kind: str) -> list[Any]:
        # Imported here: loopback networks never look anything up.
        import dns.asyncresolver
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            if self._resolver is None:
                self._resolver = dns.asyncresolver.Resolver()
                self._resolver.cache = dns.resolver.LRUCache(CACHE_NAMES_MAX)
            absolute = dns.name.from_text(name)
            answer = await self._resolver.resolve(absolute, kind, lifetime=LOOKUP_S, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.name.LabelTooLong, dns.name.EmptyLabel, dns.name.NameTooLong) as error:
            raise BadInput("not a domain name") from error
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable("the name could not be looked up") from error
        return list(answer)
