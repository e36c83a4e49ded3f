"""The published vectors of data model, keys, trees and commit proofs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from appliance.errors import BadInput
from appliance.protocol import cbor, cid, datamodel, firehose, keys, mst, mst_node
from tests.shared import shared


def fixture(path: str) -> Any:
    return json.loads(shared(f"interop-tests/{path}").read_text())


def unpadded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def test_data_model_fixtures_agree_byte_for_byte() -> None:
    cases = fixture("data-model/data-model-fixtures.json")

    assert len(cases) == 3
    for case in cases:
        value = datamodel.from_parsed(case["json"])
        block = cbor.encode(value)
        assert block == unpadded(case["cbor_base64"])
        assert cid.to_text(cid.cid_of(block)) == case["cid"]
        assert cbor.decode(block) == cbor.decode_strict(block) == value
        assert json.loads(cbor.to_json(block)) == json.loads(datamodel.to_json(value)) == case["json"]


def test_valid_data_is_accepted() -> None:
    cases = fixture("data-model/data-model-valid.json")

    assert len(cases) == 5
    for case in cases:
        value = datamodel.from_json(json.dumps(case["json"]))
        datamodel.check(value)
        assert cbor.decode_strict(cbor.encode(value)) == value


def test_invalid_data_is_refused() -> None:
    cases = fixture("data-model/data-model-invalid.json")

    accepted = []
    for case in cases:
        try:
            value = datamodel.from_json(json.dumps(case["json"]))
            if not isinstance(value, dict):
                datamodel.check_record(value)
        except BadInput:
            continue
        accepted.append(case["note"])
    assert accepted == []
    assert len(cases) == 12


def test_signatures_verify_as_published() -> None:
    cases = fixture("crypto/signature-fixtures.json")

    assert len(cases) == 6
    for case in cases:
        message, signature = unpadded(case["messageBase64"]), unpadded(case["signatureBase64"])
        assert keys.verify(case["publicKeyDid"], message, signature) is case["validSignature"]
        lax = keys.verify(case["publicKeyDid"], message, signature, allow_high_s=True)
        assert lax is (case["validSignature"] or "high-s" in case["tags"])
        assert keys.parse_multibase(case["publicKeyMultibase"], case["didDocSuite"]) == case["publicKeyDid"]


def test_private_keys_have_the_published_names() -> None:
    k256, p256 = fixture("crypto/w3c_didkey_K256.json"), fixture("crypto/w3c_didkey_P256.json")

    assert (len(k256), len(p256)) == (5, 1)
    for case in k256:
        assert keys.PrivateKey.from_hex(case["privateKeyBytesHex"]).did_key == case["publicDidKey"]
    for case in p256:
        secret = keys.base58_decode(case["privateKeyBytesBase58"])
        assert keys.PrivateKey("p256", secret).did_key == case["publicDidKey"]


def test_keys_have_the_published_heights() -> None:
    cases = fixture("mst/key_heights.json")

    assert len(cases) == 9
    for case in cases:
        assert mst_node.height_of(case["key"].encode()) == case["height"]


def test_common_prefixes_are_as_published() -> None:
    cases = fixture("mst/common_prefix.json")

    assert len(cases) == 13
    for case in cases:
        assert mst_node.common_prefix(case["left"].encode(), case["right"].encode()) == case["len"]


def test_example_keys_make_one_tree_whichever_way() -> None:
    names = shared("interop-tests/mst/example_keys.txt").read_text().split()
    value = cid.cid_of(b"leaf")

    assert len(names) == 156
    assert [mst_node.height_of(name.encode()) for name in names] == [int(name[1]) for name in names]
    root, blocks = mst.build(dict.fromkeys(names, value))
    tree = mst.Tree(mst.build({})[1].get, mst.build({})[0])
    for name in reversed(names):
        tree, _ = tree.with_changes({name: value})
    assert tree.root == root
    assert [key for key, _ in mst.Tree(blocks.get, root).items()] == sorted(names)
    for name in names:
        assert mst.Tree(blocks.get, root).get(name) == value


@pytest.mark.parametrize("number", range(6))
def test_commit_proofs_hold_exactly_the_published_blocks(number: int) -> None:
    cases = fixture("firehose/commit-proof-fixtures.json")
    assert len(cases) == 6
    case = cases[number]
    leaf = cid.from_text(case["leafValue"])

    root, blocks = mst.build(dict.fromkeys(case["keys"], leaf))
    before = mst.Tree(blocks.get, root)
    changes: dict[str, bytes | None] = dict.fromkeys(case["dels"])
    after, new_blocks = before.with_changes(changes | dict.fromkeys(case["adds"], leaf))
    proof: dict[bytes, bytes] = {}
    for key in case["adds"] + case["dels"]:
        proof |= after.proof(key)

    assert cid.to_text(root) == case["rootBeforeCommit"]
    assert cid.to_text(after.root) == case["rootAfterCommit"]
    assert {cid.to_text(name) for name in proof} == set(case["blocksInProof"])
    assert set(new_blocks) <= set(proof)
    operations = [firehose.RepoOperation("create", key, leaf, None) for key in case["adds"]]
    operations += [firehose.RepoOperation("delete", key, None, leaf) for key in case["dels"]]
    assert firehose.invert(mst.Tree(proof.get, after.root), operations) == root


def test_both_copies_of_the_proof_fixtures_are_the_same() -> None:
    ours = fixture("firehose/commit-proof-fixtures.json")

    assert ours == json.loads(shared("data/jetstream/sync/commit-proof-fixtures.json").read_text())
