"""Trees against a dictionary: the same map makes the same root by every way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BadInput
from appliance.protocol import cid, firehose, mst, mst_edit, mst_node
from appliance.protocol.mst_node import encode_node, height_of

# Six keys of each height from 0 to 5: small trees of them have every odd shape.
POOL: list[str] = []
for level in range(6):
    found = [key for n in range(60_000) if height_of((key := f"com.example.a/{n}").encode()) == level]
    POOL += found[:6]
assert len(POOL) == 36

VALUES = [cid.cid_of(bytes([n])) for n in range(4)]
maps = st.dictionaries(st.sampled_from(POOL), st.sampled_from(VALUES))
changes = st.dictionaries(st.sampled_from(POOL), st.none() | st.sampled_from(VALUES), max_size=8)


def tree_of(mapping: dict[str, bytes]) -> tuple[mst.Tree, dict[bytes, bytes]]:
    root, blocks = mst.build(mapping)
    return mst.Tree(blocks.get, root), blocks


def changed(mapping: dict[str, bytes], delta: dict[str, bytes | None]) -> dict[str, bytes]:
    merged = mapping | delta
    return {key: value for key, value in merged.items() if value is not None}


@settings(max_examples=150, deadline=None)
@given(maps, st.randoms(use_true_random=False))
def test_building_and_adding_one_by_one_make_the_same_tree(mapping: dict[str, bytes], random: object) -> None:
    built, blocks = tree_of(mapping)
    keys = list(mapping)
    random.shuffle(keys)  # type: ignore[attr-defined]  # hypothesis types its random as object
    grown, _ = tree_of({})
    for key in keys:
        grown, _ = grown.with_changes({key: mapping[key]})

    assert grown.root == built.root
    assert list(built.items()) == sorted(mapping.items())
    assert set(built.node_cids()) == set(blocks)


@settings(max_examples=200, deadline=None)
@given(maps, changes)
def test_changes_make_the_tree_of_the_changed_map_and_tell_its_new_nodes(
    mapping: dict[str, bytes], delta: dict[str, bytes | None]
) -> None:
    before, old_blocks = tree_of(mapping)
    wanted, all_blocks = tree_of(changed(mapping, delta))

    after, new_blocks = before.with_changes(delta)

    assert after.root == wanted.root
    assert set(new_blocks) == set(all_blocks) - set(old_blocks)
    assert all(cid.cid_of(block) == name for name, block in new_blocks.items())
    assert dict(after.items()) == dict(wanted.items())
    assert before.root == mst.build(mapping)[0]


@settings(max_examples=200, deadline=None)
@given(maps, maps)
def test_a_difference_is_that_of_the_maps(old: dict[str, bytes], new: dict[str, bytes]) -> None:
    (left, _), (right, _) = tree_of(old), tree_of(new)

    found = mst.diff(left, right)

    assert found.added == {key: new[key] for key in new.keys() - old.keys()}
    assert found.deleted == {key: old[key] for key in old.keys() - new.keys()}
    assert found.updated == {
        key: (old[key], new[key]) for key in old.keys() & new.keys() if old[key] != new[key]
    }


def test_a_difference_reads_only_what_differs() -> None:
    mapping = {f"com.example.a/{n}": VALUES[0] for n in range(3000)}
    before, blocks = tree_of(mapping)
    after, new_blocks = before.with_changes({"com.example.a/1234x": VALUES[1]})
    read: list[bytes] = []

    def counted(name: bytes) -> bytes | None:
        read.append(name)
        return new_blocks.get(name) or blocks.get(name)

    found = mst.diff(mst.Tree(counted, before.root), mst.Tree(counted, after.root))

    assert found == mst.Diff({"com.example.a/1234x": VALUES[1]}, {}, {})
    assert len(read) < 40 < len(blocks)


@settings(max_examples=300, deadline=None)
@given(maps, changes)
def test_a_commits_blocks_suffice_to_undo_it(
    mapping: dict[str, bytes], delta: dict[str, bytes | None]
) -> None:
    before, _ = tree_of(mapping)
    after, blocks = before.with_changes(delta)
    operations = []
    for key, value in delta.items():
        if mapping.get(key) == value:
            continue
        action = "delete" if value is None else "update" if key in mapping else "create"
        operations.append(firehose.RepoOperation(action, key, value, mapping.get(key)))  # type: ignore[arg-type]  # one of the three words
        blocks = blocks | after.proof(key)

    partial = mst.Tree(blocks.get, after.root) if operations else after

    assert firehose.invert(partial, operations) == before.root


@settings(max_examples=150, deadline=None)
@given(maps, st.sampled_from(POOL))
def test_a_proof_shows_what_is_there_and_what_is_not(mapping: dict[str, bytes], key: str) -> None:
    tree, blocks = tree_of(mapping)

    proof = tree.proof(key)

    assert mst.Tree(proof.get, tree.root).get(key) == mapping.get(key)
    assert proof.items() <= blocks.items()


@settings(max_examples=150, deadline=None)
@given(maps, st.data())
def test_a_missing_node_is_told_and_never_passed_over(mapping: dict[str, bytes], data: st.DataObject) -> None:
    tree, blocks = tree_of(mapping)
    gone = data.draw(st.sampled_from(sorted(blocks)))
    del blocks[gone]

    with pytest.raises(mst.Missing) as caught:
        list(mst.Tree(blocks.get, tree.root).items())
    assert caught.value.cid == gone


def test_an_operation_that_does_not_fit_is_not_undone() -> None:
    mapping = dict.fromkeys(POOL[:12], VALUES[0])
    tree, _ = tree_of(mapping)
    other = POOL[-1]
    wrong: list[list[firehose.RepoOperation]] = [
        [firehose.RepoOperation("create", POOL[0], VALUES[1], None)],
        [firehose.RepoOperation("create", other, VALUES[1], None)],
        [firehose.RepoOperation("delete", POOL[0], None, VALUES[0])],
        [firehose.RepoOperation("delete", other, None, None)],
        [firehose.RepoOperation("update", POOL[0], VALUES[0], None)],
        [firehose.RepoOperation("create", POOL[0], VALUES[0], None)] * 2,
    ]
    for operations in wrong:
        with pytest.raises(BadInput):
            firehose.invert(tree, operations)


def test_the_empty_tree_is_one_empty_node() -> None:
    root, blocks = mst.build({})

    assert cid.to_text(root) == "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
    assert blocks == {root: b"\xa2ae\x80al\xf6"}
    tree = mst.Tree(blocks.get, root)
    assert list(tree.items()) == []
    assert tree.get("a/b") is None
    assert tree.proof("a/b") == blocks
    grown, _ = tree.with_changes(dict.fromkeys(POOL, VALUES[0]))
    assert grown.with_changes(dict.fromkeys(POOL))[0].root == root


@pytest.mark.parametrize(
    "key", ["", "a", "a/", "/b", "a/b/c", "a/b c", "a/é", "a\0/b", "a/b\n", "a/" + "b" * 1023]
)
def test_keys_that_are_no_paths_are_refused(key: str) -> None:
    tree, _ = tree_of({})

    with pytest.raises(BadInput):
        tree.get(key)
    with pytest.raises(BadInput):
        tree.with_changes({key: VALUES[0]})
    with pytest.raises(BadInput):
        mst.build({key: VALUES[0]})
    if key.isascii():
        with pytest.raises(BadInput):
            mst_node.decode_node(encode_node([key.encode()], VALUES[:1], [None, None]))


def keys_of(height: int, number: int) -> list[bytes]:
    return sorted(key.encode() for key in POOL[height * 6 : height * 6 + number])


HOSTILE: list[tuple[str, Callable[[], tuple[bytes, dict[bytes, bytes]]]]] = []


def hostile(make: Callable[[], list[bytes]]) -> Callable[[], list[bytes]]:
    """Register a list of blocks, root last, that no honest tree has."""

    def blocks() -> tuple[bytes, dict[bytes, bytes]]:
        made = make()
        return cid.cid_of(made[-1]), {cid.cid_of(block): block for block in made}

    HOSTILE.append((make.__name__, blocks))
    return make


@hostile
def unsorted_keys() -> list[bytes]:
    a, b = keys_of(0, 2)
    return [encode_node([b, a], VALUES[:2], [None, None, None])]


@hostile
def repeated_key() -> list[bytes]:
    (a,) = keys_of(0, 1)
    return [encode_node([a, a], VALUES[:2], [None, None, None])]


@hostile
def mixed_heights() -> list[bytes]:
    keys = sorted(keys_of(0, 1) + keys_of(2, 1))
    return [encode_node(keys, VALUES[:2], [None, None, None])]


@hostile
def child_of_a_leaf() -> list[bytes]:
    child = encode_node(keys_of(0, 1), VALUES[:1], [None, None])
    return [child, encode_node(keys_of(0, 2)[1:], VALUES[:1], [cid.cid_of(child), None])]


@hostile
def skipped_level() -> list[bytes]:
    child = encode_node(keys_of(0, 1), VALUES[:1], [None, None])
    return [child, encode_node(keys_of(2, 1), VALUES[:1], [cid.cid_of(child), None])]


@hostile
def empty_top() -> list[bytes]:
    child = encode_node(keys_of(0, 1), VALUES[:1], [None, None])
    return [child, encode_node([], [], [cid.cid_of(child)])]


@hostile
def empty_bottom() -> list[bytes]:
    child = encode_node([], [], [None])
    return [child, encode_node(keys_of(1, 1), VALUES[:1], [cid.cid_of(child), None])]


@hostile
def child_on_the_wrong_side() -> list[bytes]:
    (key,) = keys_of(1, 1)
    late = [other for other in keys_of(0, 6) if other > key][:1] or keys_of(0, 6)[-1:]
    child = encode_node(late, VALUES[:1], [None, None])
    early = late[0] > key
    return [
        child,
        encode_node([key], VALUES[:1], [cid.cid_of(child), None] if early else [None, cid.cid_of(child)]),
    ]


@hostile
def too_many_entries() -> list[bytes]:
    keys = sorted(k for n in range(3000) if height_of(k := f"a/{n}".encode()) == 0)[
        : mst_node.ENTRIES_MAX + 1
    ]
    return [encode_node(keys, [VALUES[0]] * len(keys), [None] * (len(keys) + 1))]


@hostile
def prefix_not_shared() -> list[bytes]:
    a, b = keys_of(0, 2)
    return [
        b"\xa2ae\x82"
        + b"".join(
            b"\xa4ak" + bytes([0x40 | len(key)]) + key + b"ap\x00at\xf6av\xd8\x2a\x58\x25\x00" + VALUES[0]
            for key in (a, b)
        )
        + b"al\xf6"
    ]


@hostile
def value_that_is_no_link() -> list[bytes]:
    (a,) = keys_of(0, 1)
    good = encode_node([a], VALUES[:1], [None, None])
    return [good.replace(b"\xd8\x2a\x58\x25\x00", b"\x58\x24")]


@hostile
def no_node_at_all() -> list[bytes]:
    return [b"\xa1aax"]


@hostile
def entries_of_other_kinds() -> list[bytes]:
    return [b"\xa2ae\x81\x01al\xf6"]


@hostile
def prefix_before_the_start() -> list[bytes]:
    (a,) = keys_of(0, 1)
    return [encode_node([a], VALUES[:1], [None, None]).replace(b"ap\x00", b"ap\x20")]


@pytest.mark.parametrize(("name", "make"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_no_rule_of_the_format_can_be_broken(
    name: str, make: Callable[[], tuple[bytes, dict[bytes, bytes]]]
) -> None:
    root, blocks = make()

    with pytest.raises(BadInput) as caught:
        list(mst.Tree(blocks.get, root).items())
    assert not isinstance(caught.value, mst.Missing)


def test_a_tree_as_deep_as_hashes_go_does_not_exhaust_the_stack() -> None:
    # Levels without keys: each node only points on. The deepest honest key is on level 128.
    block = encode_node(keys_of(0, 1), VALUES[:1], [None, None])
    blocks = {cid.cid_of(block): block}
    for _ in range(3000):
        block = encode_node([], [], [cid.cid_of(block)])
        blocks[cid.cid_of(block)] = block
    top = encode_node(keys_of(5, 1), VALUES[:1], [cid.cid_of(block), None])
    blocks[cid.cid_of(top)] = top
    tree = mst.Tree(blocks.get, cid.cid_of(top))

    for read in (lambda: list(tree.items()), lambda: tree.with_changes({POOL[0]: None})):
        with pytest.raises(BadInput):
            read()


def test_a_guess_about_the_top_is_made_only_for_roots_that_are_compared() -> None:
    keys = keys_of(0, 2)
    high = keys_of(1, 6)[-1]
    mapping = {key.decode(): VALUES[0] for key in keys if key < high}
    old, _ = tree_of(mapping)
    new, blocks = old.with_changes({high.decode(): VALUES[1]})
    del blocks[new.root]
    partial = mst.Tree({new.root: new.proof(high.decode())[new.root]}.get, new.root)

    undone = {high.decode(): None}
    assert partial.root_before(undone) == old.root
    with pytest.raises(mst.Missing):
        partial.with_changes(undone)[0].get(keys[0].decode())


def test_drafts_belong_to_one_edit() -> None:
    tree, _ = tree_of(dict.fromkeys(POOL[:20], VALUES[0]))
    roots = {tree.with_changes({key: VALUES[1]})[0].root for key in POOL}

    assert len(roots) == len(POOL)
    assert tree.root == mst.build(dict.fromkeys(POOL[:20], VALUES[0]))[0]
    assert mst_edit.Draft([], [], [None]).kids == [None]
