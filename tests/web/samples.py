"""A small world of posts that shows everything a page may have to show."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

from appliance.auth.web_sessions import Member
from appliance.protocol import cid as cids
from appliance.web.doors import Json
from tests.web.site_rig import Site, png

NOW_US = 1_795_244_191_751_000
MINUTE_US = 60_000_000
POST = "app.bsky.feed.post"


def did_of(name: str) -> str:
    digits = hashlib.sha256(name.encode()).hexdigest()
    return "did:plc:" + "".join("abcdefghijklmnopqrstuvwxyz234567"[int(c, 16) * 2] for c in digits[:24])


def iso(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


ME = Member(did_of("mara"), "mara.example.org", session=7)


class World:
    """Makes views, and puts them on a site's shelf."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._number = 0
        self.focus = ""

    def person(self, name: str, handle: str, *, avatar: int | None = None, **more: Any) -> Json:
        did = did_of(handle.partition(".")[0])
        view: Json = {"did": did, "handle": handle, "displayName": name, "viewer": {}, "labels": [], **more}
        if avatar is not None:
            view["avatar"] = self.picture("avatar", did, 88, 88, avatar)
        return view

    def picture(self, preset: str, did: str, width: int, height: int, seed: int) -> str:
        # Small ones of the right shape do: browsers scale them.
        scale = max(width, height) / 90
        cid = self.site.album.add(png(round(width / scale), round(height / scale), seed))
        return f"{self.site.origin}/img/{preset}/plain/{did}/{cid}@jpeg"

    def post(
        self,
        author: Json,
        text: str,
        *,
        minutes: int,
        facets: list[Json] | None = None,
        embed: Json | None = None,
        counts: tuple[int, int, int] = (0, 0, 0),
        langs: list[str] | None = None,
        **more: Any,
    ) -> Json:
        self._number += 1
        at = iso(NOW_US - minutes * MINUTE_US)
        record: Json = {"$type": POST, "text": text, "createdAt": at, "langs": langs or ["en"]}
        if facets:
            record["facets"] = facets
        view = {
            "uri": f"at://{author['did']}/{POST}/3kq{self._number:010}",
            "cid": cids.to_text(cids.cid_of(f"{self._number}{text}".encode())),
            "author": author,
            "record": record,
            "indexedAt": at,
            "replyCount": counts[0],
            "repostCount": counts[1],
            "likeCount": counts[2],
            "quoteCount": 0,
            "viewer": {"threadMuted": False},
            "labels": [],
            **more,
        }
        if embed:
            view["embed"] = embed
        return view

    def images(self, author: Json, *shapes: tuple[int, int] | None, alts: tuple[str, ...] = ()) -> Json:
        found = []
        for n, shape in enumerate(shapes):
            width, height = shape or (400, 300)
            self._number += 1
            thumb = self.picture("feed_thumbnail", author["did"], width, height, self._number)
            image: Json = {
                "thumb": thumb,
                "fullsize": thumb.replace("feed_thumbnail", "feed_fullsize"),
                "alt": alts[n] if n < len(alts) else "",
            }
            if shape:
                image["aspectRatio"] = {"width": width, "height": height}
            found.append(image)
        return {"$type": "app.bsky.embed.images#view", "images": found}


def row(post: Json, **more: Any) -> Json:
    return {"post": post, **more}


def reposted(post: Json, by: Json, *, minutes: int) -> Json:
    uri = f"at://{by['did']}/app.bsky.feed.repost/{post['uri'].rpartition('/')[2]}"
    at = iso(NOW_US - minutes * MINUTE_US)
    reason = {"$type": "app.bsky.feed.defs#reasonRepost", "by": by, "uri": uri, "indexedAt": at}
    return {"post": post, "reason": reason}


def answering(post: Json, parent: Json) -> Json:
    post["record"]["reply"] = {
        "root": {"uri": parent["uri"], "cid": parent["cid"]},
        "parent": {"uri": parent["uri"], "cid": parent["cid"]},
    }
    return {"post": post, "reply": {"root": parent, "parent": parent}}


def quoting(view: Json) -> Json:
    record = {**view, "value": view["record"], "embeds": [view["embed"]] if view.get("embed") else []}
    record = {name: record[name] for name in ("uri", "cid", "author", "value", "indexedAt", "embeds")}
    return {
        "$type": "app.bsky.embed.record#view",
        "record": {"$type": "app.bsky.embed.record#viewRecord", **record},
    }


def link(text: str, part: str, uri: str) -> Json:
    start = len(text[: text.index(part)].encode())
    return {
        "index": {"byteStart": start, "byteEnd": start + len(part.encode())},
        "features": [{"$type": "app.bsky.richtext.facet#link", "uri": uri}],
    }


def mention(text: str, part: str, did: str) -> Json:
    facet = link(text, part, "")
    facet["features"] = [{"$type": "app.bsky.richtext.facet#mention", "did": did}]
    return facet


def external(world: World, author: Json, title: str, about: str, uri: str, seed: int | None) -> Json:
    card: Json = {"uri": uri, "title": title, "description": about}
    if seed is not None:
        card["thumb"] = world.picture("feed_thumbnail", author["did"], 240, 150, seed)
    return {"$type": "app.bsky.embed.external#view", "external": card}


def furnish(site: Site) -> World:
    """Fill the shelf: a timeline of everything, profiles, threads."""
    w = World(site)
    mara = w.person("Mara Lindqvist", ME.handle, avatar=1)
    ivo = w.person("Ivo Berger", "ivo.example.net", avatar=2)
    noor = w.person("نور الهاشمي", "noor.example.com", avatar=3)
    kenji = w.person("森田健二 🌿", "kenji.example.jp", avatar=4)
    sam = w.person("sam", "sam.example.org")
    long = w.person(
        "Professor Dr. Alexandria Konstantinopolitanskaya-Featherstonehaugh the Third 🦉🦉🦉",
        "a-rather-long-handle-that-goes-on-and-on.subdomain.example-of-a-university.example.org",
    )
    bare = w.person("", "no-name.example.net")
    dora = w.person("Dora ✨", "dora.example.social", avatar=6)

    text = "How tide tables were computed by hand before 1880: example.org/tides — thanks @ivo.example.net"
    tides = w.post(
        mara,
        text,
        minutes=3,
        facets=[
            link(text, "example.org/tides", "https://example.org/tides"),
            mention(text, "@ivo.example.net", ivo["did"]),
        ],
        embed=external(
            w,
            mara,
            "Tide tables before machines",
            "Three clerks, nineteen constituents, and a great deal of patience: how the tables were made.",
            "https://www.example.org/tides",
            21,
        ),
        counts=(4, 12, 87),
    )
    tides["viewer"] = {"like": "at://like", "repost": None}
    walk = w.post(
        ivo,
        "Up before the fog.",
        minutes=9,
        embed=w.images(ivo, (1600, 1000), alts=("A valley in the morning, the river hidden under fog",)),
        counts=(2, 3, 41),
    )
    arabic = w.post(
        noor,
        "صباح الخير من القاهرة ☀️\nأكتب اليوم عن الخرائط القديمة وعن ‎GitHub‎ أيضًا.",
        minutes=14,
        langs=["ar"],
        counts=(1, 0, 19),
    )
    mixed = w.post(
        noor, "The word «كتاب» means book; in Hebrew it is «סֵפֶר». Both read right to left.", minutes=21
    )
    japanese = w.post(
        kenji,
        "今日の庭。紫陽花がようやく色づいてきました。雨の日のほうがきれいに見えます。🌧️",
        minutes=33,
        langs=["ja"],
        embed=w.images(kenji, (900, 1200), (1200, 900), (1000, 1000), alts=("紫陽花", "", "庭の石")),
        counts=(0, 6, 230),
    )
    fresh = w.post(sam, "ok", minutes=34)
    long_word = w.post(
        long,
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
        " and https://example.org/a/very/long/path/that/never/ends/and/has/no/place/to/break/in/it?query=yes",
        minutes=47,
        counts=(10234, 1200, 1234567),
    )
    tall = w.post(dora, "Found in the stairwell.", minutes=58, embed=w.images(dora, (500, 1500)))
    pair = w.post(
        dora,
        "Before and after.",
        minutes=64,
        embed=w.images(dora, (1200, 800), (800, 1200)),
        counts=(0, 0, 5),
    )
    four = w.post(
        ivo,
        "Four from the archive",
        minutes=70,
        embed=w.images(
            ivo, (800, 600), (600, 800), (900, 500), (500, 500), alts=("One", "Two", "Three", "Four")
        ),
        counts=(1, 1, 16),
    )
    unknown = w.post(bare, "A picture of unknown shape.", minutes=75, embed=w.images(bare, None))
    question = w.post(sam, "Does anybody still have the 1911 edition?", minutes=120, counts=(3, 0, 4))
    answer = w.post(mara, "Yes: two copies, one of them readable.", minutes=90, counts=(0, 0, 2))
    quote = w.post(
        dora,
        "This, exactly. And the fog too.",
        minutes=130,
        embed={
            "$type": "app.bsky.embed.recordWithMedia#view",
            "media": w.images(dora, (1200, 700)),
            "record": quoting(walk),
        },
        counts=(0, 2, 33),
    )
    quoted_gone = w.post(
        sam,
        "what did it say??",
        minutes=140,
        embed={
            "$type": "app.bsky.embed.record#view",
            "record": {"$type": "app.bsky.embed.record#viewNotFound", "uri": tides["uri"], "notFound": True},
        },
    )
    card = w.post(
        kenji,
        "",
        minutes=170,
        embed=external(w, kenji, "Paper", "", "https://a.example/paper.pdf", None),
        counts=(0, 0, 1),
    )
    covered = w.post(
        bare,
        "From the operating theatre (labelled).",
        minutes=200,
        embed=w.images(bare, (1000, 800)),
        labels=[{"val": "graphic-media", "src": did_of("labeler"), "uri": "", "cts": ""}],
    )
    honest_text = "Log in again at my-bank.example now"
    trap = w.post(
        sam,
        "my-bank.example",
        minutes=260,
        facets=[link("my-bank.example", "my-bank.example", "https://evil.example/")],
    )
    lines = w.post(
        long, f"One\n\n\n\n\n\nTwo after many lines.\n{honest_text}", minutes=60 * 26, counts=(0, 0, 3)
    )
    emoji = w.post(dora, "🎉" * 40 + " 👩‍👩‍👧‍👦 🏳️‍🌈 🇳🇴", minutes=60 * 24 * 5)
    video = w.post(
        ivo,
        "The mill, running again.",
        minutes=60 * 24 * 9,
        embed={
            "$type": "app.bsky.embed.video#view",
            "cid": "x",
            "playlist": f"{site.origin}/vid/x.m3u8",
            "thumbnail": w.picture("feed_thumbnail", ivo["did"], 640, 360, 77),
            "aspectRatio": {"width": 640, "height": 360},
            "alt": "A water mill turns",
        },
        counts=(0, 4, 52),
    )
    orphan = row(w.post(kenji, "そうですね。", minutes=60 * 24 * 400, langs=["ja"]))
    orphan["reply"] = {
        "root": {"$type": "app.bsky.feed.defs#notFoundPost", "uri": walk["uri"], "notFound": True},
        "parent": {"$type": "app.bsky.feed.defs#notFoundPost", "uri": walk["uri"], "notFound": True},
    }
    rows = [
        row(tides),
        row(walk),
        row(arabic),
        reposted(mixed, dora, minutes=18),
        row(japanese),
        row(fresh),
        row(long_word),
        row(tall),
        row(pair),
        row(four),
        row(unknown),
        answering(answer, question),
        row(quote),
        row(quoted_gone),
        reposted(card, long, minutes=150),
        row(covered),
        row(trap),
        row(lines),
        row(emoji),
        row(video),
        orphan,
    ]
    rows += [
        row(w.post(author, text, minutes=60 * 24 * (20 + n), counts=(n % 3, n % 2, n * 7 % 90)))
        for n, (author, text) in enumerate(
            (author, text) for text in PLAIN for author in (ivo, dora, kenji, sam)
        )
    ]
    shelf = site.shelf
    shelf.timelines[ME.did] = rows
    for view, about, banner in (
        (mara, "Tides, tables, and old paper.\nBergen. She/her.", None),
        (ivo, "Walks early. Pictures of fog.\nhttps://ivo.example.net", 31),
        (noor, "أكتب عن الخرائط.", 32),
        (long, "Everything about owls. " * 12, None),
        (bare, "", None),
    ):
        detailed = {
            **view,
            "description": about,
            "followersCount": 1204,
            "followsCount": 318,
            "postsCount": 5120,
        }
        if banner is not None:
            detailed["banner"] = w.picture("banner", view["did"], 900, 300, banner)
        shelf.profiles[view["did"]] = detailed
        shelf.feeds[view["did"]] = [r for r in rows if r["post"]["author"]["did"] == view["did"]]
    shelf.profiles[noor["did"]]["viewer"] = {"following": "at://f", "followedBy": "at://g"}
    _threads(w, mara, ivo, noor, sam, long, dora, kenji)
    return w


def _threads(
    w: World, mara: Json, ivo: Json, noor: Json, sam: Json, long: Json, dora: Json, kenji: Json
) -> None:
    def node(post: Json, *replies: Json) -> Json:
        return {"$type": "app.bsky.feed.defs#threadViewPost", "post": post, "replies": list(replies)}

    top = w.post(
        ivo,
        "Which bridge is this? Found in a box without a label.",
        minutes=300,
        embed=w.images(ivo, (1200, 700), alts=("An iron bridge over a wide river",)),
        counts=(2, 1, 8),
    )
    middle = w.post(noor, "أظن أنه جسر قديم في أسوان.", minutes=280, langs=["ar"], counts=(1, 0, 3))
    focus = w.post(
        mara,
        "The railings say 1912, so it can’t be the first one. The second was built by the same works in Kiel,"
        " and they numbered their girders; look at the left abutment, there is an 88.",
        minutes=240,
        counts=(4, 2, 31),
    )
    deep = node(w.post(kenji, "Level 10, and it goes on.", minutes=5, counts=(14, 0, 0)))
    for n in range(9, 0, -1):
        author = (sam, long, dora, kenji, noor, ivo)[n % 6]
        text = f"Level {n}. " + ("More words to see how narrow it gets on a small screen. " if n % 2 else "")
        deep = node(w.post(author, text, minutes=100 - n, counts=(1, 0, n)), deep)
    gone = {
        "$type": "app.bsky.feed.defs#notFoundPost",
        "uri": f"at://{sam['did']}/{POST}/3gone",
        "notFound": True,
    }
    blocked = {
        "$type": "app.bsky.feed.defs#blockedPost",
        "uri": f"at://{sam['did']}/{POST}/3blk",
        "blocked": True,
    }
    thread = node(
        focus,
        deep,
        blocked,
        node(w.post(dora, "Kiel! Of course.", minutes=200, counts=(1, 0, 6)), gone),
        node(
            w.post(
                long,
                "See also the third volume, page 88, on girders.",
                minutes=190,
                embed=external(w, long, "Girders of the North", "A catalogue", "https://lib.example/88", 5),
            )
        ),
    )
    thread["parent"] = {**node(middle), "parent": {**node(top), "parent": gone}}
    w.site.shelf.threads[focus["uri"]] = thread
    w.site.shelf.threads[top["uri"]] = node(top, node(middle))
    w.focus = focus["uri"]


PLAIN = (
    "Rain again, which is good for the beans and bad for everything else I had planned today.",
    "Small thing that pleased me: the library stamps its books by hand, and the stamp is from 1961.",
    "Reading about how fonts were cut. The punch for a full stop took an hour.",
    "If you have a spare half hour, walk along the canal to the second lock and back. It is lovely.",
    "Question for those who bake: does the dough notice when you change the flour halfway through?",
    "The train stood for an hour in a field of barley, and nobody minded.",
    "Notes from the meeting: we agreed. I will write it down before we forget that we did.",
    "Finished the second notebook of the year. The first one took eleven months.",
    "It turns out that the noise was the neighbour’s clock. We have asked for it to be kept.",
    "Swifts are back. One day earlier than last year, and two later than the year before.",
)
