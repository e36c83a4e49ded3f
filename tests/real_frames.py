"""150 consecutive frames of the real network, and the identities of those who wrote them."""

from __future__ import annotations

import json
import struct
from functools import cache

import zstandard

from appliance.protocol import did_document
from tests.shared import shared

CORPUS = "data/jetstream/corpus/"


def unpacked(path: str) -> bytes:
    """A compressed file of the corpus."""
    with shared(CORPUS + path).open("rb") as file:
        return zstandard.ZstdDecompressor().stream_reader(file).read()


@cache
def frames() -> list[bytes]:
    """As the relay sent them, in order."""
    data, at, found = unpacked("frames.bin.zst"), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


@cache
def identities() -> dict[str, did_document.Identity]:
    """By DID, as they were when the frames were captured."""
    documents = json.loads(unpacked("did_docs.json.zst"))
    return {did: did_document.from_parsed(document, did) for did, document in documents.items()}
