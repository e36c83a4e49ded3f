"""The PLC directory: signed operations in, DID documents out.

Rules: https://web.plc.directory/spec/v0.1/did-plc . Recovery by an older key within 72 hours is left out.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

import msgspec
import orjson

from appliance.devnet.entries import PlcOperation
from appliance.devnet.faults import PlcFaults
from appliance.devnet.http import Answer, Handler, Request, Site, XrpcError, json_answer
from appliance.devnet.times import iso_ms
from appliance.errors import BadInput
from appliance.protocol import cbor, cid, keys

# Longer than anybody waits.
HANG_S = 3600.0
_DATA = ("verificationMethods", "rotationKeys", "alsoKnownAs", "services")
_FIELDS = {"type", "prev", "sig", *_DATA}


class Taken(msgspec.Struct, frozen=True):
    """An operation that was accepted."""

    cid: str
    operation: dict[str, Any]
    created_us: int


def operation(
    *, rotation_keys: list[str], signing_key: str, handle: str, pds: str, prev: str | None
) -> dict[str, Any]:
    """An unsigned operation of an account."""
    return {
        "type": "plc_operation",
        "rotationKeys": rotation_keys,
        "verificationMethods": {"atproto": signing_key},
        "alsoKnownAs": [f"at://{handle}"],
        "services": {"atproto_pds": {"type": "AtprotoPersonalDataServer", "endpoint": pds}},
        "prev": prev,
    }


def sign(unsigned: dict[str, Any], key: keys.PrivateKey) -> dict[str, Any]:
    """The operation with its signature."""
    signature = key.sign(cbor.encode(unsigned))
    return unsigned | {"sig": base64.urlsafe_b64encode(signature).rstrip(b"=").decode()}


def did_of(signed_genesis: dict[str, Any]) -> str:
    """The DID that a signed first operation makes."""
    digest = sha256(cbor.encode(signed_genesis)).digest()
    return "did:plc:" + base64.b32encode(digest).decode().lower()[:24]


class Directory:
    """All operations of all DIDs."""

    def __init__(self, now_us: Callable[[], int], write: Callable[[PlcOperation], None]) -> None:
        self._now_us = now_us
        self._write = write
        self._log: dict[str, list[Taken]] = {}

    def submit(self, did: str, signed: dict[str, Any]) -> None:
        """Take an operation; raises BadInput unless it is well formed, signed, and next."""
        _check_form(signed)
        log = self._log.get(did, [])
        if log:
            before = log[-1].operation
            if before["type"] == "plc_tombstone" or signed["prev"] != log[-1].cid:
                raise BadInput("prev is not the latest operation")
            allowed = before["rotationKeys"]
        else:
            if signed["prev"] is not None or signed["type"] != "plc_operation":
                raise BadInput("not a first operation")
            if did_of(signed) != did:
                raise BadInput("the DID is not the hash of this operation")
            allowed = signed["rotationKeys"]
        unsigned = {name: value for name, value in signed.items() if name != "sig"}
        message = cbor.encode(unsigned)
        signature = _signature(signed["sig"])
        if not any(keys.verify(key, message, signature) for key in allowed):
            raise BadInput("no rotation key signed this operation")
        name = cid.to_text(cid.cid_of(cbor.encode(signed)))
        entry = PlcOperation(did, name, orjson.dumps(signed), self._now_us())
        self._write(entry)
        self.replayed(entry)

    def replayed(self, entry: PlcOperation) -> None:
        """Take up an operation found in the journal."""
        taken = Taken(entry.cid, orjson.loads(entry.operation), entry.created_us)
        self._log.setdefault(entry.did, []).append(taken)

    def latest(self, did: str) -> Taken | None:
        """The operation that counts; None for an unknown DID."""
        log = self._log.get(did)
        return log[-1] if log else None

    def as_of(self, did: str, us: int) -> Taken | None:
        """The operation that counted then."""
        known = [taken for taken in self._log.get(did, []) if taken.created_us <= us]
        return known[-1] if known else None

    def document(self, did: str, as_of_us: int | None = None) -> dict[str, Any] | None:
        """None where the DID is unknown or given up; now, or as it was."""
        taken = self.latest(did) if as_of_us is None else self.as_of(did, as_of_us)
        if taken is None or taken.operation["type"] == "plc_tombstone":
            return None
        now = taken.operation
        return {
            "@context": [
                "https://www.w3.org/ns/did/v1",
                "https://w3id.org/security/multikey/v1",
                "https://w3id.org/security/suites/secp256k1-2019/v1",
            ],
            "id": did,
            "alsoKnownAs": now["alsoKnownAs"],
            "verificationMethod": [
                {
                    "id": f"{did}#{name}",
                    "type": "Multikey",
                    "controller": did,
                    "publicKeyMultibase": key.removeprefix("did:key:"),
                }
                for name, key in now["verificationMethods"].items()
            ],
            "service": [
                {"id": f"#{name}", "type": service["type"], "serviceEndpoint": service["endpoint"]}
                for name, service in now["services"].items()
            ],
        }

    def log(self, did: str) -> list[Taken]:
        return self._log.get(did, [])


def site(directory: Directory, faults: PlcFaults, sleep: Callable[[float], Awaitable[None]]) -> Site:
    """The directory's HTTP side."""
    result = Site()

    async def around(request: Request, handler: Handler) -> Answer:
        if faults.hang:
            faults.note("hang", detail=request.path)
            await sleep(HANG_S)
        if faults.down or faults.hang:
            faults.note("down", detail=request.path)
            return json_answer({"message": "out of order"}, 503)
        return await handler(request)

    result.around = around

    async def answer(request: Request) -> Answer:
        did, _, rest = request.path.removeprefix("/").partition("/")
        if not did.startswith("did:"):
            return json_answer({"version": "devnet"}) if did in ("", "_health") else _missing(did)
        if request.method == "POST" and not rest:
            try:
                directory.submit(did, request.json())
            except (BadInput, XrpcError) as error:
                return json_answer({"message": error.message}, 400)
            return Answer(b"", content_type="text/plain")
        then = directory.as_of(did, faults.stale_us) if faults.stale_us else None
        if then is not None and then is not directory.latest(did):
            faults.note("stale", did=did)
            return _read(directory, did, rest, faults.stale_us)
        return _read(directory, did, rest)

    result.fallback = answer
    return result


def _read(directory: Directory, did: str, rest: str, as_of_us: int | None = None) -> Answer:
    taken = directory.latest(did)
    if taken is None:
        return _missing(did)
    if rest == "":
        document = directory.document(did, as_of_us)
        if document is None:
            return json_answer({"message": f"DID not available: {did}"}, 404)
        return Answer(orjson.dumps(document), content_type="application/did+ld+json")
    if rest == "data":
        fields = {name: taken.operation[name] for name in _DATA if name in taken.operation}
        return json_answer({"did": did} | fields)
    if rest == "log":
        return json_answer([entry.operation for entry in directory.log(did)])
    if rest == "log/last":
        return json_answer(taken.operation)
    if rest == "log/audit":
        return json_answer(
            [
                {
                    "did": did,
                    "operation": entry.operation,
                    "cid": entry.cid,
                    "nullified": False,
                    "createdAt": iso_ms(entry.created_us),
                }
                for entry in directory.log(did)
            ]
        )
    return json_answer({"message": "not found"}, 404)


def _missing(did: str) -> Answer:
    return json_answer({"message": f"DID not registered: {did}"}, 404)


def _check_form(signed: dict[str, Any]) -> None:
    if not isinstance(signed.get("sig"), str) or not isinstance(signed.get("prev", ""), str | None):
        raise BadInput("malformed operation")
    if "prev" not in signed:
        raise BadInput("malformed operation")
    if signed.get("type") == "plc_tombstone":
        return
    if signed.get("type") != "plc_operation" or set(signed) != _FIELDS:
        raise BadInput("unknown type of operation")
    rotation, methods = signed["rotationKeys"], signed["verificationMethods"]
    names, services = signed["alsoKnownAs"], signed["services"]
    if not isinstance(rotation, list) or not 1 <= len(rotation) <= 5:
        raise BadInput("malformed rotationKeys")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput("malformed alsoKnownAs")
    if not isinstance(methods, dict) or not all(isinstance(key, str) for key in methods.values()):
        raise BadInput("malformed verificationMethods")
    for key in rotation:
        if not isinstance(key, str):
            raise BadInput("malformed rotationKeys")
        keys.parse_did_key(key)
    if not isinstance(services, dict) or not all(
        isinstance(service, dict)
        and isinstance(service.get("type"), str)
        and isinstance(service.get("endpoint"), str)
        for service in services.values()
    ):
        raise BadInput("malformed services")


def _signature(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise BadInput("malformed signature") from None
