"""Every method that is answered here, called well and badly: answers are valid, mistakes have names."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.answers import verdict
from tests.tidy import generated
from tests.timeline.village import did
from tests.xrpc import hostile
from tests.xrpc.good_calls import AT_A_PDS, OF_THE_OPERATOR, Calls, good_calls
from tests.xrpc.town import PASSWORD, Town, town

SERVED = [method for method in generated.xrpc_methods() if method.status == "served"]
QUERIES = [method.nsid for method in SERVED if method.kind == "query"]
PROCEDURES = [method.nsid for method in SERVED if method.kind == "procedure"]
EXAMPLES, EXAMPLES_LONG = 12, 400
ADMIN = {"authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}
SUBJECT = {"$type": "com.atproto.admin.defs#repoRef", "did": did("eva")}
OPERATORS: dict[str, dict[str, Any]] = {
    "com.atproto.admin.getAccountInfos": {"dids": [SUBJECT["did"]]},
    "com.atproto.admin.getSubjectStatus": {"did": did("ann")},
    "com.atproto.admin.updateSubjectStatus": {"subject": SUBJECT, "takedown": {"applied": False}},
}


class Fair:
    """The town and its good calls, with the cursors that its lists gave."""

    def __init__(self, place: Town) -> None:
        self.town = place
        self.calls: Calls = place.do(good_calls(place))
        self.cursors: list[str] = []


@pytest.fixture(scope="module")
def fair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fair]:
    with town(tmp_path_factory.mktemp("town")) as place:
        found = Fair(place)
        for nsid, parameters in found.calls.queries.items():
            reply = place.do(place.get(nsid, "ann", hostile_pairs(parameters)))
            if reply.status_code == 200 and "cursor" in reply.json():
                found.cursors.append(reply.json()["cursor"])
        yield found


def hostile_pairs(parameters: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(one).lower() if isinstance(one, bool) else str(one))
        for name, value in parameters.items()
        for one in (value if isinstance(value, list) else [value])
    ]


def sound(nsid: str, reply: httpx.Response, told: Any) -> None:
    """Whatever was asked, the answer is valid, and nothing failed on our side."""
    # Whoever has no session at a PDS is sent there; a PDS that is not there can't be asked.
    allowed = (200, 400, 401, 403, 501, 502, 503) if nsid in AT_A_PDS else (200, 400, 401, 403)
    if nsid == "com.atproto.sync.getBlob":
        allowed = (*allowed, 404)
    assert reply.status_code in allowed, (nsid, told, reply.status_code, reply.text[:300])
    assert verdict(reply) is None, (nsid, told, reply.text[:300])


def test_every_method_that_is_served_has_a_good_call(fair: Fair) -> None:
    called = set(fair.calls.queries) | set(fair.calls.procedures)

    assert called | AT_A_PDS | OF_THE_OPERATOR == {method.nsid for method in SERVED}
    assert set(OPERATORS) == OF_THE_OPERATOR


@pytest.mark.parametrize("nsid", [nsid for nsid in QUERIES if nsid not in AT_A_PDS | OF_THE_OPERATOR])
def test_a_good_query_is_answered_as_its_schema_says(fair: Fair, nsid: str) -> None:
    place = fair.town
    place.do(place.answer(nsid, "ann", hostile_pairs(fair.calls.queries[nsid])))


@pytest.mark.parametrize("nsid", [nsid for nsid in PROCEDURES if nsid not in AT_A_PDS | OF_THE_OPERATOR])
def test_a_good_procedure_is_answered_as_its_schema_says(fair: Fair, nsid: str) -> None:
    fair.town.do(fair.town.done(nsid, "ann", fair.calls.procedures[nsid]))


@pytest.mark.parametrize("nsid", sorted(OPERATORS))
def test_the_operators_calls_are_answered_as_their_schemas_say(fair: Fair, nsid: str) -> None:
    reply = _as_operator(fair, nsid, OPERATORS[nsid])
    assert reply.status_code == 200, reply.text
    assert verdict(reply) is None


def _as_operator(fair: Fair, nsid: str, told: Any) -> httpx.Response:
    http = fair.town._http
    if nsid in QUERIES:
        pairs: list[tuple[str, Any]] = told if isinstance(told, list) else list(hostile_pairs(told))
        return fair.town.do(http.get(f"/xrpc/{nsid}", params=pairs, headers=ADMIN))
    return fair.town.do(http.post(f"/xrpc/{nsid}", json=told, headers=ADMIN))


def ask_badly(fair: Fair, nsid: str, examples: int) -> None:
    good = fair.calls.queries.get(nsid, OPERATORS.get(nsid, {}))

    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=examples == EXAMPLES,
    )
    @given(hostile.query(nsid, good, fair.cursors), st.sampled_from(["ann", "ann", "bob", "gus", ""]))
    def ask(pairs: list[tuple[str, str]], who: str) -> None:
        if nsid in OF_THE_OPERATOR:
            reply = _as_operator(fair, nsid, pairs)
        else:
            reply = fair.town.do(fair.town.get(nsid, who, pairs))
        sound(nsid, reply, (who, pairs))

    ask()


def send_badly(fair: Fair, nsid: str, examples: int) -> None:
    good = fair.calls.procedures.get(nsid, OPERATORS.get(nsid, {}))

    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=examples == EXAMPLES,
    )
    @given(hostile.body(nsid, good), st.sampled_from(["ann", "ann", "bob", "gus", ""]))
    def send(body: Any, who: str) -> None:
        if nsid in OF_THE_OPERATOR:
            reply = _as_operator(fair, nsid, body)
        else:
            reply = fair.town.do(fair.town.post(nsid, who, body))
        sound(nsid, reply, (who, body))

    send()


@pytest.mark.parametrize("nsid", QUERIES)
def test_bad_parameters_are_refused_by_name_and_never_a_failure(fair: Fair, nsid: str) -> None:
    ask_badly(fair, nsid, EXAMPLES)


@pytest.mark.parametrize("nsid", PROCEDURES)
def test_bad_bodies_are_refused_by_name_and_never_a_failure(fair: Fair, nsid: str) -> None:
    send_badly(fair, nsid, EXAMPLES)


@pytest.mark.long
@pytest.mark.parametrize("nsid", QUERIES)
def test_many_bad_parameters_are_refused_as_well(fair: Fair, nsid: str) -> None:
    ask_badly(fair, nsid, EXAMPLES_LONG)


@pytest.mark.long
@pytest.mark.parametrize("nsid", PROCEDURES)
def test_many_bad_bodies_are_refused_as_well(fair: Fair, nsid: str) -> None:
    send_badly(fair, nsid, EXAMPLES_LONG)
