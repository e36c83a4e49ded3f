"""Which labels are a labeler's own words: by its name, and by the key in its DID document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput
from appliance.protocol import did_document, labels
from appliance.protocol.labels import Label

REFUSED = telemetry.counter("labels_refused", "Labels that were not taken, by reason.", ["reason"])
# A labeler that signs badly must not make us ask for its document with every label.
LOOK_AGAIN_S = 60.0


class Documents(Protocol):
    """Where DID documents come from; ``identity.Identities`` is one."""

    async def document(self, did: str) -> did_document.Identity: ...

    def forget(self, did: str) -> None: ...


class Named(msgspec.Struct, frozen=True):
    """Where a labeler is, and with which key it signs."""

    endpoint: str
    key: str


async def look_up(documents: Documents, did: str) -> Named:
    """What its document says; raises BadInput where that names no labeler, and what ``document`` raises."""
    document = await documents.document(did)
    service = document.services.get(labels.SERVICE_ID)
    key = document.keys.get(labels.KEY_ID)
    if service is None or service.type != labels.SERVICE_TYPE or key is None:
        raise BadInput("this account is no labeler")
    return Named(service.endpoint, key)


class Checker:
    """Checks one labeler's labels. ``key`` is the one that held last."""

    def __init__(self, documents: Documents, did: str, key: str, clock: Clock) -> None:
        self.key = key
        self._documents = documents
        self._did = did
        self._clock = clock
        self._looked_s: float | None = None

    def own(self, values: Iterable[Any]) -> tuple[list[Label], int]:
        """Those that are well formed and in this labeler's name; how many others there were."""
        found: list[Label] = []
        refused = 0
        for value in values:
            try:
                label = labels.parse(value)
            except BadInput:
                refused += 1
                REFUSED.labels("form").inc()
                continue
            if label.src != self._did:
                refused += 1
                REFUSED.labels("source").inc()
                continue
            found.append(label)
        return found, refused

    async def signed(self, found: Sequence[Label]) -> tuple[list[Label], int]:
        """Those that the labeler signed, in order; how many others there were.

        At a signature that does not hold the key is read anew once, and the rest judged by that.
        """
        right = await asyncio.to_thread(_judge, found, self.key)
        if not all(right) and await self._has_another_key():
            again = [label for label, holds in zip(found, right, strict=True) if not holds]
            verdicts = iter(await asyncio.to_thread(_judge, again, self.key))
            right = [holds or next(verdicts) for holds in right]
        refused = len(right) - sum(right)
        if refused:
            REFUSED.labels("signature").inc(refused)
        return [label for label, holds in zip(found, right, strict=True) if holds], refused

    async def _has_another_key(self) -> bool:
        now_s = self._clock.monotonic_s()
        if self._looked_s is not None and now_s - self._looked_s < LOOK_AGAIN_S:
            return False
        self._looked_s = now_s
        self._documents.forget(self._did)
        try:
            named = await look_up(self._documents, self._did)
        except ApplianceError:
            return False
        before, self.key = self.key, named.key
        return named.key != before


def _judge(found: Sequence[Label], key: str) -> list[bool]:
    return [labels.holds(label, key) for label in found]
