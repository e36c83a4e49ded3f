"""Who vouches for an account, and what it says it is doing, in every view of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from appliance.protocol import lexicons
from appliance.timeline import labelers
from appliance.timeline.asker import Asker
from tests.timeline.village import PROFILE, Village, asker, did, village

VERIFICATION = "app.bsky.graph.verification"
STATUS = "app.bsky.actor.status"


async def of(place: Village, who: str, *, by: Asker | None = None) -> Any:
    """The same in a profile, and in the author of a post."""
    by = by or asker("bob")
    answer = await place.views.profile(by, did(who))
    detailed = answer.parsed()
    assert lexicons.validate_output("app.bsky.actor.getProfile", detailed) is None
    feed = (await place.views.author_feed(by, did(who))).parsed()["feed"]
    for item in feed:
        author = item["post"]["author"]
        assert [author.get(name) for name in ("verification", "status")] == [
            detailed.get(name) for name in ("verification", "status")
        ]
    assert lexicons.validate_output("app.bsky.feed.getAuthorFeed", {"feed": feed}) is None
    return detailed


async def vouch(place: Village, who: str, whom: str, **more: str) -> dict[str, str]:
    record = {"subject": did(whom), "handle": f"{whom}.test", "displayName": whom.title(), **more}
    return await place.write(who, VERIFICATION, record)


async def test_trusted_verifications_hold_as_long_as_name_and_handle_do(tmp_path: Path) -> None:
    async with village(tmp_path, verifiers=(did("vera"), did("zoe"))) as place:
        await place.join("ann", "bob", "vera", "zoe", "mallory")
        await place.post("ann")
        assert "verification" not in await of(place, "ann")
        await vouch(place, "mallory", "ann")
        assert "verification" not in await of(place, "ann")

        first = await vouch(place, "vera", "ann")
        state = (await of(place, "ann"))["verification"]
        assert state["verifiedStatus"] == "valid"
        assert state["trustedVerifierStatus"] == "none"
        (view,) = state["verifications"]
        assert (view["uri"], view["issuer"], view["isValid"]) == (first["uri"], did("vera"), True)
        assert (view["issuerHandle"], view["issuerDisplayName"]) == ("vera.test", "Vera")

        # The same verifier again: one counts, and the other takes its place.
        second = await vouch(place, "vera", "ann")
        await place.delete(first)
        (view,) = (await of(place, "ann"))["verification"]["verifications"]
        assert view["uri"] == second["uri"]

        await place.write("ann", PROFILE, {"displayName": "Annie"}, rkey="self", operation="update")
        assert (await of(place, "ann"))["verification"]["verifiedStatus"] == "invalid"
        await vouch(place, "zoe", "ann", displayName="Annie")
        state = (await of(place, "ann"))["verification"]
        assert [each["isValid"] for each in state["verifications"]] == [False, True]
        assert state["verifiedStatus"] == "valid"
        await place.named("ann", "other.test")
        assert (await of(place, "ann"))["verification"]["verifiedStatus"] == "invalid"

        await place.status("zoe", "takendown")
        assert len((await of(place, "ann"))["verification"]["verifications"]) == 1
        await place.delete(second)
        assert "verification" not in await of(place, "ann")


async def test_a_verifier_is_shown_as_one_and_impersonation_ends_it(tmp_path: Path) -> None:
    async with village(tmp_path, verifiers=(did("vera"),)) as place:
        await place.join("ann", "bob", "vera", "lab")
        await vouch(place, "vera", "ann")
        state = (await of(place, "vera"))["verification"]
        assert state == {"verifications": [], "verifiedStatus": "none", "trustedVerifierStatus": "valid"}

        await place.label(did("ann"), "impersonation", source=did("lab"))
        await place.label(did("vera"), "impersonation", source=did("lab"))
        redacting = Asker(did=did("bob"), labelers=labelers.parse(f"{did('lab')};redact", ()))
        noting = Asker(did=did("bob"), labelers=labelers.parse(did("lab"), ()))
        assert (await of(place, "ann", by=redacting))["verification"]["verifiedStatus"] == "invalid"
        assert (await of(place, "vera", by=redacting))["verification"]["trustedVerifierStatus"] == "invalid"
        assert (await of(place, "ann", by=noting))["verification"]["verifiedStatus"] == "valid"


async def test_a_status_is_active_until_its_time_is_over_within_bounds(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "lab")
        await place.post("ann")
        embed = {
            "$type": "app.bsky.embed.external",
            "external": {"uri": "https://live.test/ann", "title": "Ann", "description": "live"},
        }
        said = await place.write(
            "ann",
            STATUS,
            {"status": "app.bsky.actor.status#live", "durationMinutes": 100_000, "embed": embed},
            rkey="self",
            at_us=place.clock.now_us(),
        )
        status = (await of(place, "ann"))["status"]
        assert (status["uri"], status["cid"]) == (said["uri"], said["cid"])
        assert (status["isActive"], status["expiresAt"]) == (True, "2026-01-01T04:00:00.000Z")
        assert status["embed"]["external"]["title"] == "Ann"
        assert "isDisabled" not in status
        assert (await of(place, "ann", by=asker("ann")))["status"]["isDisabled"] is False

        await place.label(said["uri"], "spam", source=did("lab"))
        by_lab = Asker(labelers=labelers.parse(did("lab"), ()))
        assert [each["val"] for each in (await of(place, "ann", by=by_lab))["status"]["labels"]] == ["spam"]

        await place.clock.advance(4 * 3600)
        assert (await of(place, "ann"))["status"]["isActive"] is False
        await place.delete(said)
        assert "status" not in await of(place, "ann")
