"""DID documents: the sample ones, 148 real ones, and ones made to confuse."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from appliance.errors import BadInput
from appliance.protocol import did_document, keys
from appliance.protocol.did_document import Service
from tests.real_frames import identities
from tests.shared import shared

DID = "did:plc:abc"
KEY = keys.PrivateKey.from_hex("9085d2bef69286a6cbb51623c8fa258629945cd55ca705cc4e66700396894e0c")


def document(**changes: Any) -> dict[str, Any]:
    return {
        "id": DID,
        "alsoKnownAs": ["at://user.test"],
        "verificationMethod": [
            {
                "id": f"{DID}#atproto",
                "type": "Multikey",
                "controller": DID,
                "publicKeyMultibase": KEY.multibase,
            }
        ],
        "service": [
            {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://pds.test"}
        ],
        **changes,
    }


def parse(**changes: Any) -> did_document.Identity:
    return did_document.parse(json.dumps(document(**changes)).encode(), DID)


def sample(name: str, did: str) -> did_document.Identity:
    return did_document.parse(shared(f"data/jetstream/sync/did-docs/{name}.json").read_bytes(), did)


def test_sample_documents_of_today_and_of_2022_tell_the_same() -> None:
    did = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
    new, old = sample("did_plc_doc", did), sample("did_plc_doc_legacy", did)

    assert new == old
    assert (new.handles, new.pds) == (("atproto.com",), "https://bsky.social")
    assert new.signing_key == "did:key:zQ3shXjHeiBuRCKmM36cuYnm7YEMzhGnCmCyW92sRJ9pribSF"


def test_a_feed_generators_document_has_neither_key_nor_repository() -> None:
    web = sample("did_web_doc", "did:web:discover.bsky.social")

    assert (web.handles, web.pds, web.signing_key) == ((), None, None)
    assert web.services == {"bsky_fg": Service("BskyFeedGenerator", "https://discover.bsky.social")}


def test_real_documents_are_complete() -> None:
    found = identities()

    assert len(found) == 148
    assert [identity.did for identity in found.values() if not (identity.pds and identity.signing_key)] == []
    assert sum(bool(identity.handles) for identity in found.values()) > 140


def test_what_is_no_document_of_that_did_is_refused() -> None:
    for data in (
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1}',
        json.dumps(document(id="did:plc:x")).encode(),
        b" " * 70_000,
    ):
        with pytest.raises(BadInput) as caught:
            did_document.parse(data, DID)
        assert caught.value.name == "InvalidDidDocument"


def test_too_many_parts_are_refused() -> None:
    service, method = document()["service"][0], document()["verificationMethod"][0]
    assert parse(service=[service] * 50, verificationMethod=[method] * 20).pds == "https://pds.test"
    for changes in ({"service": [service] * 51}, {"verificationMethod": [method] * 21}, {"service": "x"}):
        with pytest.raises(BadInput):
            parse(**changes)


def test_relative_and_absolute_ids_are_one_and_the_first_counts() -> None:
    first = {
        "id": f"{DID}#atproto_pds",
        "type": "AtprotoPersonalDataServer",
        "serviceEndpoint": "https://a.test/",
    }
    second = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "https://b.test"}
    other = keys.PrivateKey.generate("p256")
    methods = [
        {"id": "#atproto", "type": "Multikey", "publicKeyMultibase": other.multibase},
        {"id": f"{DID}#atproto", "type": "Multikey", "controller": DID, "publicKeyMultibase": KEY.multibase},
    ]

    assert parse(service=[first, second]).pds == "https://a.test"
    assert parse(service=[second, first]).pds == "https://b.test"
    assert parse(verificationMethod=methods).signing_key == other.did_key
    assert parse(verificationMethod=methods[::-1]).signing_key == KEY.did_key


def test_a_first_that_can_not_be_used_is_not_replaced_by_a_second() -> None:
    bad = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": "ftp://a.test"}
    good = document()["service"][0]

    assert parse(service=[bad, good]).pds is None
    assert (
        parse(verificationMethod=[{"id": "#atproto"}, document()["verificationMethod"][0]]).signing_key
        is None
    )


@pytest.mark.parametrize(
    "change",
    [
        {"type": "Ed25519VerificationKey2020"},
        {"type": None},
        {"publicKeyMultibase": None},
        {"publicKeyMultibase": "z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"},
        {"publicKeyMultibase": "z" + "2" * 10_000},
        {"controller": "did:plc:other"},
        {"id": "#other"},
        {"id": "did:plc:other#atproto"},
        {"id": None},
    ],
)
def test_unusable_keys_are_absent(change: dict[str, Any]) -> None:
    method = {**document()["verificationMethod"][0], **change}

    assert parse(verificationMethod=[method, 5, None]).signing_key is None


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://pds.test", "https://pds.test"),
        ("https://PDS.test/", "https://pds.test"),
        ("https://pds.test:443", "https://pds.test"),
        ("https://pds.test:8443/", "https://pds.test:8443"),
        ("http://localhost:2583", "http://localhost:2583"),
        ("http://[::1]:2583", "http://[::1]:2583"),
        ("https://pds.test/path", None),
        ("https://pds.test?", None),
        ("https://pds.test#", None),
        ("https://user@pds.test", None),
        ("https://user:pw@pds.test", None),
        ("https://pds.test:99999", None),
        ("https://pds.test:x", None),
        ("https://", None),
        ("https:pds.test", None),
        ("https://pds.test\\@evil.test", None),
        ("https://pds.test\t", None),
        ("https://pds test", None),
        ("https://pdś.test", None),
        ("javascript:alert(1)", None),
        ("wss://pds.test", None),
        ("https://" + "a" * 3000, None),
        (None, None),
        ({"uri": "https://pds.test"}, None),
    ],
)
def test_endpoints_are_origins_and_nothing_more(url: object, origin: str | None) -> None:
    service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": url}

    assert parse(service=[service]).pds == origin


def test_handles_are_claims_in_order() -> None:
    names = ["https://x.test", "at://B.test", 5, "at://b.test", "at://bad", "at://a.test", "at://did:plc:abc"]

    assert parse(alsoKnownAs=names).handles == ("b.test", "a.test")
    assert parse(alsoKnownAs=None).handles == ()
    assert parse(alsoKnownAs="at://a.test").handles == ()


def test_a_service_of_another_type_is_no_repository() -> None:
    service = {"id": "#atproto_pds", "type": "Other", "serviceEndpoint": "https://pds.test"}

    found = parse(service=[service])

    assert found.pds is None
    assert found.services == {"atproto_pds": Service("Other", "https://pds.test")}


def test_a_hostile_document_costs_little() -> None:
    methods = [{"id": f"#k{n}", "type": "Multikey", "publicKeyMultibase": "z" + "z" * 120} for n in range(20)]
    start = time.perf_counter()

    parse(verificationMethod=methods)

    assert time.perf_counter() - start < 0.05
