"""Drafts are a member's own; takedowns of blobs and looks at accounts are the operator's."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from appliance.errors import NotFound
from appliance.media.images import Images
from appliance.protocol import lexicons
from appliance.protocol.cid import blob_cid_of, to_text
from appliance.store import drafts as kept
from appliance.store import takedowns
from appliance.timeline import labelers
from appliance.xrpc import admin, drafts
from appliance.xrpc.asgi import Front
from tests.serving import serving
from tests.timeline.village import Village, did, village
from tests.xrpc.test_front import PASSWORD, authenticate

BASIC = {"Authorization": "Basic " + base64.b64encode(f"admin:{PASSWORD}".encode()).decode()}


@asynccontextmanager
async def serving_village(path: Path) -> AsyncIterator[tuple[Village, httpx.AsyncClient]]:
    async with village(path) as place:
        front = Front(
            [*drafts.methods(place.database, place.clock), *admin.methods(place.database, place.clock)],
            authenticate,
            default_labelers=labelers.default(place.settings.labelers),
            admin_password=PASSWORD,
        )
        async with serving(front) as origin, httpx.AsyncClient(base_url=f"{origin}/xrpc/") as http:
            await place.join("ann", "bob")
            yield place, http


def as_(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def draft(words: str) -> dict[str, object]:
    return {"draft": {"posts": [{"text": words}]}}


async def test_a_member_keeps_drafts_that_nobody_else_sees(tmp_path: Path) -> None:
    async with serving_village(tmp_path) as (place, http):
        ids = []
        for number in range(5):
            made = await http.post(
                "app.bsky.draft.createDraft", json=draft(f"d {number}"), headers=as_("ann")
            )
            assert lexicons.validate_output("app.bsky.draft.createDraft", made.json()) is None
            ids.append(made.json()["id"])
        await place.clock.advance(60)
        change = {"draft": {"id": ids[1], "draft": {"posts": [{"text": "new"}]}}}
        assert (
            await http.post("app.bsky.draft.updateDraft", json=change, headers=as_("ann"))
        ).status_code == 200
        assert (
            await http.post("app.bsky.draft.updateDraft", json=change, headers=as_("bob"))
        ).status_code == 200
        await http.post("app.bsky.draft.deleteDraft", json={"id": ids[0]}, headers=as_("bob"))
        await http.post("app.bsky.draft.deleteDraft", json={"id": ids[3]}, headers=as_("ann"))

        texts, cursor = [], ""
        while True:
            page = await http.get(
                "app.bsky.draft.getDrafts", params={"limit": 2, "cursor": cursor}, headers=as_("ann")
            )
            assert lexicons.validate_output("app.bsky.draft.getDrafts", page.json()) is None
            texts += [each["draft"]["posts"][0]["text"] for each in page.json()["drafts"]]
            if "cursor" not in page.json():
                break
            cursor = page.json()["cursor"]
        assert texts == ["d 4", "d 2", "new", "d 0"]
        theirs = await http.get("app.bsky.draft.getDrafts", headers=as_("bob"))
        assert theirs.json() == {"drafts": []}


async def test_drafts_have_a_limit_and_refuse_what_is_none(tmp_path: Path) -> None:
    async with serving_village(tmp_path) as (place, http):
        one = await http.post("app.bsky.draft.createDraft", json=draft("first"), headers=as_("ann"))

        def fill(tx: object) -> None:
            for number in range(drafts.DRAFTS_MAX - 1):
                assert kept.create(tx, 1, f"3k{number:011}", b'{"posts":[]}', 0, drafts.DRAFTS_MAX)  # type: ignore[arg-type]

        await place.database.write(fill)
        more = await http.post("app.bsky.draft.createDraft", json=draft("one more"), headers=as_("ann"))
        assert (more.status_code, more.json()["error"]) == (400, "DraftLimitReached")
        await http.post("app.bsky.draft.deleteDraft", json={"id": one.json()["id"]}, headers=as_("ann"))
        again = await http.post("app.bsky.draft.createDraft", json=draft("one more"), headers=as_("ann"))
        assert again.status_code == 200

        for who, status in (("", 401), ("guest-ann", 403)):
            told = await http.post(
                "app.bsky.draft.createDraft", json=draft("x"), headers=as_(who) if who else {}
            )
            assert told.status_code in (401, status)
        bad = await http.get("app.bsky.draft.getDrafts", params={"cursor": "x__y"}, headers=as_("ann"))
        assert bad.status_code == 400
        assert (await http.post("app.bsky.draft.createDraft", json={}, headers=as_("ann"))).status_code == 400


async def test_a_blob_that_was_taken_down_is_not_shown(tmp_path: Path) -> None:
    async with serving_village(tmp_path) as (place, http):
        data = b"\xff\xd8\xffpicture"
        cid = to_text(blob_cid_of(data))

        async def fetch(_did: str, _cid: str) -> bytes:
            return data

        async def refused(owner: str, blob: str) -> bool:
            return (
                await place.database.read(lambda reader: takedowns.of_blob(reader, owner, blob)) is not None
            )

        async def as_it_is(blob: bytes, _preset: str, _form: str) -> bytes:
            return blob

        async def shown(_did: str, _cid: str) -> bool:
            return True

        images = Images(tmp_path / "images", fetch, as_it_is, shown, cache_bytes=10**6, refused=refused)
        assert (await images.get("avatar", did("ann"), cid)).data == data

        subject = {"$type": "com.atproto.admin.defs#repoBlobRef", "did": did("ann"), "cid": cid}
        asked = {"did": did("ann"), "blob": cid}
        for applied in (True, False):
            told = await http.post(
                "com.atproto.admin.updateSubjectStatus",
                json={"subject": subject, "takedown": {"applied": applied, "ref": "why"}},
                headers=BASIC,
            )
            assert told.status_code == 200
            status = await http.get("com.atproto.admin.getSubjectStatus", params=asked, headers=BASIC)
            assert lexicons.validate_output("com.atproto.admin.getSubjectStatus", status.json()) is None
            assert status.json()["takedown"]["applied"] is applied
            if applied:
                with pytest.raises(NotFound):
                    await images.get("avatar", did("ann"), cid)
                assert (await images.get("avatar", did("bob"), cid)).data == data
        assert (await images.get("avatar", did("ann"), cid)).data == data


async def test_the_operator_sees_accounts_and_nobody_else_does(tmp_path: Path) -> None:
    async with serving_village(tmp_path) as (_, http):
        asked = {"dids": [did("ann"), did("bob"), did("zed")]}
        told = await http.get("com.atproto.admin.getAccountInfos", params=asked, headers=BASIC)
        assert lexicons.validate_output("com.atproto.admin.getAccountInfos", told.json()) is None
        assert [each["handle"] for each in told.json()["infos"]] == ["ann.test", "bob.test"]
        assert told.json()["infos"][0]["relatedRecords"][0]["displayName"] == "Ann"
        denied = await http.get("com.atproto.admin.getAccountInfos", params=asked, headers=as_("ann"))
        assert denied.status_code == 401
