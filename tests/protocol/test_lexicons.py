"""Published schemas: documents, records, answers, parameters; a second judge beside our own."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from appliance.errors import BadInput, NotFound
from appliance.protocol import datamodel, lexicon_document, lexicons
from appliance.protocol.lexicon_rules import Rules, absolute, graphemes_reach, mime_type_matches
from tests.shared import shared


def fixture(name: str) -> Any:
    return json.loads(shared(f"interop-tests/lexicon/{name}.json").read_text())


def catalog_rules() -> Rules:
    documents = [
        json.loads(path.read_text()) for path in shared("interop-tests/lexicon/catalog").glob("*.json")
    ]
    assert len(documents) == 5
    assert [document["id"] for document in documents if lexicon_document.check(document)] == []
    definitions = {
        absolute(f"#{name}", document["id"]): schema
        for document in documents
        for name, schema in document["defs"].items()
    }
    return Rules(definitions.get, blob_limits=True)


def judge(rules: Rules, data: Any) -> str | None:
    try:
        return rules.of("example.lexicon.record")(datamodel.from_json(json.dumps(data)))
    except BadInput as error:
        return error.message


def test_valid_records_are_accepted() -> None:
    rules, cases = catalog_rules(), fixture("record-data-valid")

    assert {case["name"]: judge(rules, case["data"]) for case in cases} == {
        case["name"]: None for case in cases
    }
    assert len(cases) == 3


def test_invalid_records_are_refused() -> None:
    rules, cases = catalog_rules(), fixture("record-data-invalid")

    assert [case["name"] for case in cases if judge(rules, case["data"]) is None] == []
    assert len(cases) == 50


def test_invalid_records_are_refused_for_their_own_reason() -> None:
    rules = catalog_rules()

    # Each case with the required field in place, so that its absence is not what was noticed.
    for case in fixture("record-data-invalid")[1:]:
        failure = judge(rules, {**case["data"], "integer": case["data"].get("integer", 1)})
        assert failure is not None, case["name"]
        assert "is required" not in failure or "$type" in failure, case["name"]


def test_lexicon_documents_are_told_apart() -> None:
    valid, invalid = fixture("lexicon-valid"), fixture("lexicon-invalid")

    assert [case["name"] for case in valid if lexicon_document.check(case["lexicon"]) is not None] == []
    assert [case["name"] for case in invalid if lexicon_document.check(case["lexicon"]) is None] == []
    assert (len(valid), len(invalid)) == (3, 7)
    nonsense: Any
    for nonsense in (None, [], "x", {}, {"lexicon": True, "id": "a.b.c", "defs": {"main": {}}}):
        assert lexicon_document.check(nonsense) is not None


def test_every_shipped_document_is_a_lexicon_and_all_its_references_lead_somewhere() -> None:
    names = list(lexicons.documents())

    # Those that others publish, and our own (docs/xrpc-own.md).
    assert len([nsid for nsid in names if not nsid.startswith("computer.aesthetic.")]) == 318
    assert len(names) == 318 + 7
    for nsid in names:
        document = lexicons.document(nsid)
        assert document is not None
        assert document["id"] == nsid
        assert lexicon_document.check(document) is None, nsid
        for reference in references(document):
            assert lexicons.definition(absolute(reference, nsid)) is not None, (nsid, reference)
    assert (lexicons.FILES / "LICENSE-MIT.txt").exists()


def references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [found for item in schema for found in references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["ref"]] if schema.get("type") == "ref" else []
    own += schema["refs"] if schema.get("type") == "union" else []
    return own + [found for item in schema.values() for found in references(item)]


def test_names_that_are_no_names_open_no_file() -> None:
    for nsid in ("", ".", "../../etc/passwd", "app.bsky.feed.post/../x", "app.bsky.feed.nothing", "a" * 5000):
        assert lexicons.document(nsid) is None
        assert lexicons.definition(nsid) is None


POST: dict[str, Any] = {
    "$type": "app.bsky.feed.post",
    "text": "hello",
    "createdAt": "2026-07-04T14:38:08.999Z",
}


def validate(record: Any, collection: str = "app.bsky.feed.post", **options: Any) -> str | None:
    return lexicons.validate_record(collection, json.dumps(record).encode(), **options)


def blob(size: int = 1000, mime_type: str = "image/jpeg") -> dict[str, Any]:
    link = "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity"
    return {"$type": "blob", "ref": {"$link": link}, "mimeType": mime_type, "size": size}


def with_image(image: Any) -> dict[str, Any]:
    return {
        **POST,
        "embed": {"$type": "app.bsky.embed.images", "images": [{"alt": "", "image": image}]},
    }


def test_posts_are_judged() -> None:
    assert validate(POST) is None
    assert validate({**POST, "text": "x" * 300}) is None
    assert validate({**POST, "text": "👩‍👩‍👦‍👦" * 120}) is None
    assert validate({**POST, "text": "x" * 301}) == "text: must have at most 300 graphemes"
    assert validate({**POST, "text": "👩‍👩‍👦‍👦" * 121}) == "text: must have at most 3000 bytes"
    assert validate({**POST, "text": "é" * 301}) == "text: must have at most 300 graphemes"
    assert validate({**POST, "text": "e\u0301" * 300}) is None
    assert validate({**POST, "text": None}) == "text: must be a string"
    assert validate({**POST, "createdAt": "yesterday"}) == "createdAt: must be a valid datetime"
    assert validate({**POST, "langs": ["en", "??"]}) == "langs/1: must be a valid language"
    assert validate({**POST, "embed": {"$type": "com.example.new", "x": 1}}) is None
    assert validate({**POST, "embed": {"x": 1}}) == "embed/$type: is required"
    assert validate({**POST, "extra": {"deep": [1, 2]}}) is None
    assert validate({**POST, "extra": 1.5}) == "floating point is not allowed"
    assert validate({"$type": "app.bsky.feed.post", "text": ""}) == "createdAt: is required"


def test_the_type_must_be_the_collection_even_of_an_unknown_one() -> None:
    assert validate(POST, "app.bsky.feed.like") == "$type: must be app.bsky.feed.like"
    assert validate({"$type": "com.example.new", "a": 1}, "com.example.new") is None
    assert validate({"a": 1}, "com.example.new") == "$type: must be com.example.new"
    assert validate([], "com.example.new") == "must be an object"
    assert lexicons.validate_record("com.example.new", b"{") == "not JSON"


def test_blobs_are_limited_where_we_write_and_not_where_others_wrote() -> None:
    large, pdf = with_image(blob(size=3_000_000)), with_image(blob(mime_type="application/pdf"))
    legacy = with_image(
        {"cid": "bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity", "mimeType": "image/png"}
    )

    assert validate(with_image(blob())) is None
    assert validate(large) == "embed/images/0/image: can not be larger than 2000000 bytes"
    assert validate(pdf) == "embed/images/0/image: must be of type image/*"
    assert validate(legacy) == "holds a blob of the form that is no longer written"
    for record in (large, pdf, legacy):
        assert validate(record, published=True) is None
    assert validate(with_image("blob"), published=True) == "embed/images/0/image: must be a blob"
    assert validate({**legacy, "$type": "com.example.new"}, "com.example.new") is not None


def test_record_keys_follow_the_schema() -> None:
    assert lexicons.validate_record_key("app.bsky.feed.post", "3jzfcijpj2z2a") is None
    assert lexicons.validate_record_key("app.bsky.feed.post", "self") is not None
    assert lexicons.validate_record_key("app.bsky.actor.profile", "self") is None
    assert lexicons.validate_record_key("app.bsky.actor.profile", "other") is not None
    assert lexicons.validate_record_key("com.example.new", "any:key") is None
    assert lexicons.validate_record_key("com.example.new", "..") is not None
    assert validate(POST, rkey="self") == "record key: must be a valid tid"


def test_mime_types_match_by_group() -> None:
    assert mime_type_matches("image/png", ["image/*"])
    assert mime_type_matches("Image/PNG; q=1", ["text/plain", "image/png"])
    assert mime_type_matches("x/y", ["*/*"])
    assert not mime_type_matches("imagex/png", ["image/*"])
    assert not mime_type_matches("image/png", [])


def test_graphemes_are_counted_only_as_far_as_needed() -> None:
    assert graphemes_reach("\r\n" * 5, 5)
    assert not graphemes_reach("\r\n" * 5, 6)
    assert graphemes_reach("🇩🇪🏳️‍🌈", 2)
    assert not graphemes_reach("🇩🇪🏳️‍🌈", 3)
    assert graphemes_reach("", 0)


def test_parameters_are_typed_and_filled_in() -> None:
    parse = lexicons.parse_parameters

    assert parse("app.bsky.feed.getTimeline", []) == {"limit": 50}
    assert parse("app.bsky.feed.getTimeline", [("limit", "7"), ("cursor", ""), ("x", "y")]) == {"limit": 7}
    assert parse("app.bsky.feed.getPosts", [("uris", "at://a.test/app.bsky.feed.post/1")] * 2) == {
        "uris": ["at://a.test/app.bsky.feed.post/1"] * 2
    }
    assert parse("app.bsky.feed.getAuthorFeed", [("actor", "a.test"), ("includePins", "true")]) == {
        "actor": "a.test",
        "limit": 50,
        "filter": "posts_with_replies",
        "includePins": True,
    }
    for nsid, pairs in (
        ("app.bsky.feed.getTimeline", [("limit", "0")]),
        ("app.bsky.feed.getTimeline", [("limit", "101")]),
        ("app.bsky.feed.getTimeline", [("limit", "abc")]),
        ("app.bsky.feed.getTimeline", [("limit", "1" * 5000)]),
        ("app.bsky.feed.getAuthorFeed", []),
        ("app.bsky.feed.getAuthorFeed", [("actor", "")]),
        ("app.bsky.feed.getAuthorFeed", [("actor", "did:PLC:x")]),
        ("app.bsky.feed.getPosts", [("uris", "at://a.test")] * 26),
    ):
        with pytest.raises(BadInput, match=f"^Invalid {nsid} params: "):
            parse(nsid, pairs)
    with pytest.raises(NotFound) as caught:
        parse("app.bsky.feed.post", [])
    assert caught.value.name == "MethodNotImplemented"


def test_every_method_tells_its_parameters() -> None:
    methods = 0
    for nsid in lexicons.documents():
        schema = lexicons.definition(nsid)
        if schema is not None and schema["type"] in ("query", "procedure", "subscription"):
            names = [parameter.name for parameter in lexicons.query_parameters(nsid)]
            assert names == list(schema.get("parameters", {}).get("properties", {}))
            methods += 1
    assert methods == 254 + 6
    (limit,) = [p for p in lexicons.query_parameters("app.bsky.feed.getTimeline") if p.name == "limit"]
    assert (limit.type, limit.default, limit.minimum, limit.maximum) == ("integer", 50, 1, 100)


def official_answers() -> list[tuple[str, Any]]:
    found = []
    for path in sorted(shared("conformance").glob("*/responses/*.json")):
        answer = json.loads(path.read_text())
        if answer["response"]["status"] == 200:
            found.append((answer["request"]["nsid"], answer["response"]["body"]))
    return found


def test_captured_official_answers_are_valid() -> None:
    answers = official_answers()
    assert len(answers) > 2500

    refused = [(nsid, failure) for nsid, body in answers if (failure := lexicons.validate_output(nsid, body))]

    # The official server leaves a required field out here.
    assert [row for row in refused if row[0] != "app.bsky.graph.getKnownFollowers"] == []
    assert len(refused) == 2


def test_answers_with_something_broken_are_refused() -> None:
    nsid, body = next(
        (nsid, body) for nsid, body in official_answers() if nsid.endswith("getTimeline") and body["feed"]
    )

    assert lexicons.validate_output(nsid, body) is None
    path: tuple[Any, ...]
    value: Any
    for path, value in (
        (("feed",), {}),
        (("feed", 0), "x"),
        (("feed", 0, "post"), None),
        (("feed", 0, "post", "uri"), "at://"),
        (("feed", 0, "post", "author", "did"), "alice"),
        (("feed", 0, "post", "likeCount"), "1"),
        (("feed", 0, "post", "record"), "bare"),
        (("feed", 0, "post", "indexedAt"), 5),
    ):
        broken = copy.deepcopy(body)
        place = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        assert lexicons.validate_output(nsid, broken) is not None, path


def test_bodies_of_procedures_are_judged() -> None:
    nsid = "com.atproto.repo.createRecord"

    assert lexicons.validate_input(nsid, {"repo": "a.test", "collection": "a.b.c", "record": {}}) is None
    assert lexicons.validate_input(nsid, {"repo": "a.test", "collection": "a.b.c"}) is not None
    assert lexicons.validate_input("com.atproto.repo.uploadBlob", None) is None


def test_a_hostile_depth_is_refused_and_not_followed() -> None:
    deep: Any = {"$type": "app.bsky.feed.defs#threadViewPost"}
    for _ in range(5000):
        deep = {"$type": "app.bsky.feed.defs#threadViewPost", "parent": deep}

    assert lexicons.validate_output("app.bsky.feed.getPostThread", {"thread": deep}) == "nested too deeply"
    assert lexicons.validate_record("app.bsky.feed.post", b"[" * 900 + b"]" * 900) == "nested too deeply"


def test_another_validator_agrees_on_real_and_on_broken_records() -> None:
    lexrpc = pytest.importorskip("lexrpc.base")
    from multiformats import CID

    def as_other(value: Any) -> Any:
        if isinstance(value, datamodel.Link):
            return CID.decode(bytes(value))
        if isinstance(value, dict):
            return {key: as_other(item) for key, item in value.items()}
        return [as_other(item) for item in value] if isinstance(value, list) else value

    other = lexrpc.Base([lexicons.document(nsid) for nsid in lexicons.documents()], require_lexicons=False)
    lines = shared("data/jetstream/corpus/expected_v1.jsonl").read_text().splitlines()
    records = [
        commit["record"] for line in lines if "record" in (commit := json.loads(line).get("commit", {}))
    ]
    judged = broken = 0
    for record in records:
        if not lexicons.is_record(record["$type"]):
            continue
        for variant in [record, *mutants(record)]:
            value = datamodel.from_parsed(variant)
            try:
                other.validate(record["$type"], "record", as_other(value))
                verdict = True
            except Exception:  # it raises many kinds for what it doesn't expect
                verdict = False
            ours = lexicons.validate_value(record["$type"], value)
            if verdict and ours == "embed: must be an object":
                continue  # the other one accepts a bare string in a union
            assert (ours is None) == verdict, (variant, ours)
            judged += 1
            broken += not verdict
    assert judged > 1000
    assert broken > 300


def mutants(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The record with each top field missing, or of another type."""
    made = []
    for name in record:
        if name != "$type":
            made.append({key: value for key, value in record.items() if key != name})
            wrong: list[Any] = [5, "x", [], {"a": 1}]
            made += [{**record, name: value} for value in wrong]
    return made
