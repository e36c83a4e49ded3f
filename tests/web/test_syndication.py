"""Feeds for readers of feeds: valid, inert, private ones only for who knows the address."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from tests.timeline.village import did
from tests.web.reading_rig import Screen, house, opened
from tests.web.test_lookups import admit

ATOM = "{http://www.w3.org/2005/Atom}"


async def test_an_account_is_a_feed_in_three_forms_with_etag(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.site.client() as guest:
        first = await place.village.post("bob", "a <b>bold</b> claim & \x01 more")
        await place.village.reply("bob", first)
        await place.village.repost("bob", await place.village.post("carol", "from Carol"))
        atom = await guest.get("/feeds/profile/bob.test.atom")
        tree = ElementTree.fromstring(atom.content)
        titles = [e.findtext(f"{ATOM}title") for e in tree.findall(f"{ATOM}entry")]

        assert atom.headers["content-type"] == "application/atom+xml; charset=utf-8"
        assert titles == ["↻ Carol: from Carol", "↪ Bob: bob replies", "Bob: a <b>bold</b> claim & more"]
        ids = [e.findtext(f"{ATOM}id") for e in tree.findall(f"{ATOM}entry")]
        assert len(set(ids)) == 3
        content = tree.findall(f"{ATOM}entry")[2].findtext(f"{ATOM}content")
        assert content is not None
        assert "<b>" not in content
        assert "&lt;b&gt;bold" in content
        again = await guest.get(
            "/feeds/profile/bob.test.atom", headers={"If-None-Match": atom.headers["etag"]}
        )
        assert (again.status_code, again.content) == (304, b"")
        rss = ElementTree.fromstring((await guest.get(f"/feeds/profile/{did('bob')}.rss")).content)
        assert len(rss.findall("channel/item")) == 3
        plain = (await guest.get("/feeds/profile/bob.test.json")).json()
        assert [item["title"] for item in plain["items"]] == titles
        assert (await guest.get("/feeds/profile/nobody.test.atom")).status_code == 404


async def test_a_private_feed_is_read_by_its_address_till_it_is_revoked(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone, place.site.client() as guest:
        await admit(place, "alice")
        await place.village.post("bob", "for followers")
        page = await opened(phone, "/feeds")
        data = {"token": page.document.token}
        made = Screen(phone, await phone.post("/api/feeds/make", data=data))
        [address] = re.findall(r"/feeds/private/[\w-]+", made.html)
        feed = await guest.get(address + ".json")
        assert [item["title"] for item in feed.json()["items"]] == ["Bob: for followers"]
        assert address not in (await opened(phone, "/feeds")).html
        assert (await guest.get("/feeds/private/nonsense.atom")).status_code == 404

        number = made.document.all("input", name="number")[0]["value"]
        await phone.post("/api/feeds/revoke", data={**data, "number": number})
        assert (await guest.get(address + ".json")).status_code == 404


async def test_whoever_is_no_member_any_more_has_no_feed(tmp_path: Path) -> None:
    async with house(tmp_path) as place, place.device() as phone, place.site.client() as guest:
        await admit(place, "alice")
        page = await opened(phone, "/feeds")
        made = await phone.post("/api/feeds/make", data={"token": page.document.token})
        [address] = re.findall(r"/feeds/private/[\w-]+", made.text)
        assert (await guest.get(address + ".atom")).status_code == 200
        await place.village.database.write(lambda tx: tx.run("DELETE FROM member"))
        assert (await guest.get(address + ".atom")).status_code == 404
