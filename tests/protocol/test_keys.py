"""Keys and commits: both curves, with and without the quick library."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import reload
from typing import Any

import pytest

from appliance.errors import BadInput
from appliance.protocol import cbor, cbor_exact, cid, commits, keys
from appliance.protocol.datamodel import Link
from appliance.protocol.keys import Curve

CURVES: tuple[Curve, ...] = ("k256", "p256")
ORDER = {
    "k256": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "p256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}


@pytest.fixture(params=["quick", "without coincurve"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param != "quick":
        monkeypatch.setitem(sys.modules, "coincurve", None)
        reload(keys)
        assert keys.coincurve is None
    else:
        assert keys.coincurve is not None
    yield
    monkeypatch.undo()
    reload(keys)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("curve", CURVES)
def test_signatures_are_short_low_and_verify(curve: Curve) -> None:
    key = keys.PrivateKey.generate(curve)
    for n in range(20):
        message = b"message %d" % n
        signature = key.sign(message)
        s = int.from_bytes(signature[32:], "big")
        assert len(signature) == 64
        assert s <= ORDER[curve] // 2
        assert keys.verify(key.did_key, message, signature)
        assert not keys.verify(key.did_key, message + b"!", signature)
        high = signature[:32] + (ORDER[curve] - s).to_bytes(32, "big")
        assert not keys.verify(key.did_key, message, high)
        assert keys.verify(key.did_key, message, high, allow_high_s=True)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("curve", CURVES)
def test_numbers_out_of_range_are_no_signatures(curve: Curve) -> None:
    key = keys.PrivateKey.generate(curve)
    good = key.sign(b"m")
    order = ORDER[curve].to_bytes(32, "big")
    for bad in (
        b"",
        good[:-1],
        good + b"\0",
        bytes(64),
        bytes(32) + good[32:],
        good[:32] + bytes(32),
        order * 2,
    ):
        assert keys.verify(key.did_key, b"m", bad) is False
        assert keys.verify(key.did_key, b"m", bad, allow_high_s=True) is False


@pytest.mark.usefixtures("either_way")
def test_one_secret_makes_one_name_either_way() -> None:
    key = keys.PrivateKey.from_hex("9085d2bef69286a6cbb51623c8fa258629945cd55ca705cc4e66700396894e0c")

    assert key.did_key == "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"
    assert key.to_hex() in keys.PrivateKey.from_hex(key.to_hex()).to_hex()
    assert key.to_hex() not in repr(key)
    curve, point = keys.parse_did_key(key.did_key)
    assert (curve, len(point)) == ("k256", 33)
    assert keys.format_did_key(curve, point) == key.did_key
    assert keys.parse_multibase(key.multibase) == key.did_key


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize(
    "did_key",
    [
        "",
        "did:key:",
        "did:key:z",
        "did:web:example.com",
        "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:key:uQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBm",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYB0e",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",  # ed25519
        "did:key:z" + "1" * 200,
        "did:key:z" + keys.base58_encode(b"\xe7\x01\x02" + b"\xff" * 32),  # not on the curve
        "did:key:z" + keys.base58_encode(b"\x80\x24\x02" + b"\xff" * 32),
        "did:key:z" + keys.base58_encode(b"\xe7\x01\x04" + bytes(64)),
    ],
)
def test_what_is_no_key_is_refused(did_key: str) -> None:
    with pytest.raises(BadInput):
        keys.verify(did_key, b"m", bytes(64))
    with pytest.raises(BadInput):
        keys.parse_did_key(did_key)


def test_secrets_out_of_range_are_refused() -> None:
    for secret in (bytes(32), b"\xff" * 32, b"\x01" * 31, b"\x01" * 33):
        with pytest.raises(BadInput):
            keys.PrivateKey("k256", secret)
    with pytest.raises(BadInput):
        keys.PrivateKey.from_hex("not hex")


def test_keys_of_documents_go_by_their_type() -> None:
    key = keys.PrivateKey.generate("p256")
    bare = "z" + keys.base58_encode(key.public_bytes)

    assert keys.parse_multibase(bare, "EcdsaSecp256r1VerificationKey2019") == key.did_key
    for text, kind in (
        (bare, "Multikey"),
        (key.multibase, "EcdsaSecp256k1VerificationKey2019"),
        (key.multibase, "Ed25519VerificationKey2020"),
        ("", "Multikey"),
        ("z" + "2" * 200, "Multikey"),
    ):
        with pytest.raises(BadInput):
            keys.parse_multibase(text, kind)


def test_base58_goes_both_ways() -> None:
    for data in (b"", b"\0", b"\0\0x", b"hello", bytes(range(256))):
        assert keys.base58_decode(keys.base58_encode(data)) == data
    assert keys.base58_encode(b"hello world") == "StV1DL6CwTryKyV"


KEY = keys.PrivateKey.from_hex("9085d2bef69286a6cbb51623c8fa258629945cd55ca705cc4e66700396894e0c")
DATA = cid.cid_of(b"tree")


@pytest.mark.parametrize("prev", [None, cid.cid_of(b"before")])
@pytest.mark.parametrize("curve", CURVES)
def test_a_commit_is_signed_read_and_verified(curve: Curve, prev: bytes | None) -> None:
    key = keys.PrivateKey.generate(curve)

    name, block = commits.sign("did:plc:abc", "3jzfcijpj2z2a", DATA, key, prev=prev)
    commit = commits.parse(block)

    assert name == cid.cid_of(block)
    assert (commit.did, commit.rev, commit.data, commit.prev) == ("did:plc:abc", "3jzfcijpj2z2a", DATA, prev)
    assert commits.verify(commit, key.did_key)
    assert not commits.verify(commit, KEY.did_key)
    assert commits.encode(commit) == block


def test_a_signature_that_looks_like_a_link_stays_bytes() -> None:
    looks = b"\x01\x71\x12\x3c" + bytes(60)
    block = commits.encode(commits.Commit("did:plc:abc", "3jzfcijpj2z2a", DATA, None, looks))

    assert commits.parse(block).sig == looks


def test_what_is_no_commit_is_refused() -> None:
    good = cbor.decode(commits.sign("did:plc:abc", "3jzfcijpj2z2a", DATA, KEY)[1])
    bad: list[Any] = [
        [],
        {},
        {**good, "version": 2},
        {**good, "did": "abc"},
        {**good, "rev": "1"},
        {**good, "rev": None},
        {**good, "data": DATA},
        {**good, "data": None},
        {**good, "prev": b"x"},
        {**good, "sig": None},
        {**good, "sig": Link(DATA)},
        {**good, "extra": 1},
        {name: value for name, value in good.items() if name != "prev"},
    ]
    for fields in bad:
        with pytest.raises(BadInput):
            commits.parse(cbor_exact.encode(fields))
    for block in (b"", b"\xff", cbor_exact.encode(good) + b"\0"):
        with pytest.raises(BadInput):
            commits.parse(block)
