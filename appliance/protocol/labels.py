"""Labels: what a labeler says of an account or a record, and the signature by which it stands to that.

https://atproto.com/specs/label
"""

from __future__ import annotations

from typing import Any

import msgspec

from appliance.errors import BadInput
from appliance.protocol import cbor, keys, syntax
from appliance.protocol.syntax import parse_at_uri, parse_datetime_us

VERSION = 1
VALUE_BYTES_MAX = 128
URI_CHARS_MAX = 2048
FIELDS_MAX = 20
# The key in a labeler's DID document, and its service.
KEY_ID = "atproto_label"
SERVICE_ID = "atproto_labeler"
SERVICE_TYPE = "AtprotoLabeler"


class Label(msgspec.Struct, frozen=True):
    """One statement. ``signed`` is what the signature is of; ``neg`` takes back what was said before.

    Of several about the same thing the one with the latest ``cts_us`` holds.
    """

    src: str
    uri: str
    val: str
    cid: str
    neg: bool
    cts: str
    exp: str | None
    cts_us: int
    sig: bytes | None
    signed: bytes
    usual: bool  # signed over the fields of the specification alone, none of them said without need

    @property
    def subject(self) -> str:
        """The DID of the account that it is about, or whose record."""
        return subject_of(self.uri)


def parse(value: object) -> Label:
    """From a label's values, as they came in a frame or in JSON; raises BadInput."""
    if not isinstance(value, dict) or len(value) > FIELDS_MAX:
        raise BadInput("a label is an object")
    if value.get("ver") != VERSION or isinstance(value["ver"], bool):
        raise BadInput("this version of labels is not known")
    src, uri, val, cts = (_text(value, name) for name in ("src", "uri", "val", "cts"))
    if not syntax.is_did(src) or len(uri) > URI_CHARS_MAX or not syntax.is_did(subject_of(uri)):
        raise BadInput("a label is by a DID, about a DID or an address")
    if not val or len(val.encode()) > VALUE_BYTES_MAX:
        raise BadInput("a label's value has 1 to 128 bytes")
    cid, exp = (_text(value, name) if value.get(name) is not None else None for name in ("cid", "exp"))
    if cid is not None and not syntax.is_cid(cid):
        raise BadInput("a label's cid is none")
    if exp is not None:
        parse_datetime_us(exp)
    neg, sig = value.get("neg", False), value.get("sig")
    if not isinstance(neg, bool) or not isinstance(sig, bytes | None):
        raise BadInput("a label's neg or sig is of another type")
    told = {name for name in value if name not in ("sig", "$type")}
    needed = {"ver", "src", "uri", "val", "cts", *(["neg"] if neg else [])}
    needed |= {name for name, part in (("cid", cid), ("exp", exp)) if part is not None}
    return Label(
        src=src,
        uri=uri,
        val=val,
        cid=cid or "",
        neg=neg,
        cts=cts,
        exp=exp,
        cts_us=parse_datetime_us(cts),
        sig=sig,
        signed=cbor.encode({name: part for name, part in value.items() if name in told}),
        usual=told == needed,
    )


def holds(label: Label, did_key: str) -> bool:
    """Whether that key signed it."""
    return label.sig is not None and keys.verify(did_key, label.signed, label.sig)


def sign(value: dict[str, Any], key: keys.PrivateKey) -> dict[str, Any]:
    """The label's values with version and signature."""
    whole = {"ver": VERSION} | {name: part for name, part in value.items() if name != "sig"}
    return whole | {"sig": key.sign(cbor.encode(whole))}


def subject_of(uri: str) -> str:
    """The DID in a label's ``uri``; '' where there is none."""
    if uri.startswith("did:"):
        return uri
    try:
        return parse_at_uri(uri).authority
    except BadInput:
        return ""


def _text(value: dict[Any, Any], name: str) -> str:
    part = value.get(name)
    if not isinstance(part, str):
        raise BadInput(f"a label has no {name}")
    return part
