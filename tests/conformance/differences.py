"""The written list of how we may differ from the recorded answers, and why.

``MUST`` differ by nature and are not counted as differences. ``OURS`` are cases where our promise
wins over the official server's habit; each is recognised exactly, checked as far as it goes, and
counted apart. Nothing else may differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.conformance.comparing import plain
from tests.conformance.scenario import Query, Scenario

MUST = {
    "C-1": "cursors name a place in our order: the same time, of the cid the deciding characters only",
    "C-2": "message texts of errors are our own; error names and statuses are compared",
    "C-3": "where the official server fails with 500 (malformed cursors, a Bearer that is no JWT, handles in"
    " at-uris of lists), any refusal of ours from 400 on is equal",
    "C-4": "getKnownFollowers is a set: their order is that in which their database found them",
    "C-5": "of accounts that don't exist they answer getKnownFollowers without the subject that its schema"
    " requires; ours says that there is no such account",
    "C-7": "suggestions that they leave to services of their own are made here from what is known here",
    "C-8": "cursors of bookmarks are keys of the server that made them: the recorded ones are ours instead",
    "C-9": "they serve no feeds of their own: describeFeedGenerator is 501 there",
    "C-6": "who is deactivated may not ask with a token of his own: rule SJ-10 of the design",
}


class Case(NamedTuple):
    """``holds`` is true where this promise explains the whole difference."""

    id: str
    why: str
    holds: Callable[[Scenario, Query, Any, Any], bool]


def _own_rows_cap(_: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """They leave own rows out of a page beyond a cap: theirs is a part of ours, in order."""
    if query.nsid != "app.bsky.feed.getTimeline":
        return False
    mine, other = plain(ours).get("feed", []), plain(theirs).get("feed", [])
    rest = iter(mine)
    return len(mine) > len(other) and all(any(item == each for each in rest) for item in other)


def _doubled_self_follow(_: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """Somebody who follows himself gets each own item twice from them."""
    if query.nsid != "app.bsky.feed.getTimeline":
        return False
    seen: list[Any] = []
    for item in plain(theirs).get("feed", []):
        if item not in seen:
            seen.append(item)
    mine = plain(ours).get("feed", [])
    return len(seen) < len(theirs.get("feed", [])) and mine[: len(seen)] == seen


def _edited_posts_stay(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """They move an edited post to a new place in time, and take its reposts off the lists.

    Apart from that time everything is equal. In feeds the edited posts are set aside: the others
    are equal and in the same order, on pages with a cursor as far as both pages reach.
    """
    mine, other = _unmoved(plain(ours), scenario.edited), _unmoved(plain(theirs), scenario.edited)
    if not scenario.edited:
        return False
    if "notifications" in mine and "notifications" in other:
        mine, other = ({"feed": _as_items(side["notifications"])} for side in (mine, other))
    if "feed" not in mine or "feed" not in other:
        return bool(mine == other)
    one, two = _others(mine["feed"], scenario.edited), _others(other["feed"], scenario.edited)
    if "cursor" in query.params or "cursor" in mine or "cursor" in other:
        both = {*one} & {*two}
        one = {key: item for key, item in one.items() if key in both}
        two = {key: item for key, item in two.items() if key in both}
    return list(one.items()) == list(two.items())


def _as_items(notifications: list[Any]) -> list[Any]:
    """As of a feed. Where nothing has been seen the newest alone is unread, and that may be an edited one."""
    return [{"post": {key: part for key, part in each.items() if key != "isRead"}} for each in notifications]


def _told_otherwise(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """They store what a viewer wants to be told and tell it all; they forget who likes twice and takes one
    back; posts of subscribed accounts they tell by another service.

    Without what is not wanted in theirs and the others in ours, both pages begin alike,
    and the shorter goes on.
    """
    wanted = scenario.wanted.get(query.phase, {}).get(scenario.accounts.get(query.viewer or "", ""), {})
    unlisted = {name for name, preference in wanted.items() if not preference["list"]}
    followed = {name for name, preference in wanted.items() if preference.get("include") == "follows"}
    if query.nsid == "app.bsky.notification.getUnreadCount":
        return bool(unlisted | followed) and 0 <= ours["count"] < theirs["count"]
    if query.nsid != "app.bsky.notification.listNotifications":
        return False
    mine = [
        each
        for each in plain(ours)["notifications"]
        if each["uri"] not in scenario.liked_again and each["reason"] != "subscribed-post"
    ]
    other = [
        each
        for each in plain(theirs)["notifications"]
        if each["reason"] not in unlisted
        and not (each["reason"] in followed and "following" not in each["author"]["viewer"])
    ]
    set_aside = len(mine) < len(ours["notifications"]) or len(other) < len(theirs["notifications"])
    shared = min(len(mine), len(other))
    shorter = ours if len(mine) < len(other) else theirs
    same = mine[:shared] == other[:shared] and ("cursor" in shorter or len(mine) == len(other))
    return set_aside and same and ours.get("seenAt") == theirs.get("seenAt")


def _reposted_once(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """They list both reposts of one post by one account. Without the second both pages begin alike.

    A page that holds one row less may be filled from what follows, or end where it is half full, also where
    a mute hides both: the shorter of the two must have a cursor that leads on.
    """
    if query.nsid != "app.bsky.feed.getTimeline":
        return False
    mine, other = plain(ours).get("feed", []), plain(theirs).get("feed", [])
    rest = [item for item in other if item.get("reason", {}).get("uri") not in scenario.doubled]
    shared = min(len(mine), len(rest))
    shorter = ours if len(mine) < len(rest) else theirs
    if not scenario.doubled or mine[:shared] != rest[:shared]:
        return False
    return "cursor" in shorter or (len(mine) == len(rest) < len(other))


def _quotes_of_any_version(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """They count a quote only where it names the version of today. Apart from those numbers all is equal."""
    mine, other = (_unnumbered(plain(each), scenario.quoted_otherwise) for each in (ours, theirs))
    return bool(scenario.quoted_otherwise) and mine == other


def _unnumbered(value: Any, posts: frozenset[str]) -> Any:
    """Without the number of quotes of those posts."""
    if isinstance(value, dict):
        left_out = value.get("uri") in posts
        return {
            key: _unnumbered(part, posts)
            for key, part in value.items()
            if not (left_out and key == "quoteCount")
        }
    return [_unnumbered(part, posts) for part in value] if isinstance(value, list) else value


# (scenario, post): a reply that is in the stream and in no answer of the recorded server.
_LOST = {("notifications", "3n2sjmnsiw22z"): "3n2sjmjknb22z"}


def _lost_by_them(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """Their index lacks a post. Without it, and one less among the replies of its parent, all is equal."""
    for (name, lost), parent in _LOST.items():
        if name == scenario.name and _without(plain(ours), lost, parent) == plain(theirs):
            return True
    return False


def _without(value: Any, lost: str, parent: str) -> Any:
    if isinstance(value, dict):
        kept = {key: _without(part, lost, parent) for key, part in value.items()}
        if str(value.get("uri", "")).endswith(parent) and "replyCount" in kept:
            kept["replyCount"] -= 1
        return kept
    if isinstance(value, list):
        return [_without(part, lost, parent) for part in value if not _is(part, lost)]
    return value


def _is(entry: Any, rkey: str) -> bool:
    post = entry.get("post", entry) if isinstance(entry, dict) else {}
    return isinstance(post, dict) and str(post.get("uri", "")).endswith(rkey)


def _deleted_list(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """A list that its owner deleted lists nothing here; they go on by its items."""
    if query.nsid != "app.bsky.feed.getListFeed" or query.params["list"] not in scenario.deleted:
        return False
    return not ours["feed"] and bool(theirs["feed"])


def _edited_things_stay(scenario: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """They move an edited feed or list to a new place among the others; apart from that all is equal."""
    name = {"app.bsky.feed.getActorFeeds": "feeds", "app.bsky.graph.getLists": "lists"}.get(query.nsid)
    if name is None:
        return False
    mine = {entry["uri"]: entry for entry in plain(ours)[name]}
    other = {entry["uri"]: entry for entry in plain(theirs)[name]}
    if "cursor" in query.params or "cursor" in theirs:
        both = mine.keys() & other.keys()
        return all(mine[uri] == other[uri] for uri in both) and bool(scenario.edited_things & other.keys())
    moved = [uri for uri in mine if uri not in scenario.edited_things]
    stayed = [uri for uri in other if uri not in scenario.edited_things]
    return mine == other and moved == stayed and bool(scenario.edited_things & mine.keys())


def _suggested_here(_: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """What they have no service for, or list in no order, is ranked here."""
    name = {
        "app.bsky.actor.getSuggestions": "actors",
        "app.bsky.feed.getSuggestedFeeds": "feeds",
        "app.bsky.graph.getSuggestedFollowsByActor": "suggestions",
        "app.bsky.unspecced.getPopularFeedGenerators": "feeds",
    }.get(query.nsid)
    if name is None:
        return False
    mine, other = (
        {each["did" if name != "feeds" else "uri"]: each for each in plain(side)[name]}
        for side in (ours, theirs)
    )
    return bool(mine) and (not other or mine == other)


def _found_here(_: Scenario, query: Query, ours: Any, theirs: Any) -> bool:
    """The same is found, as whole words or their beginnings; people with many followers come first."""
    name, key = {
        "app.bsky.actor.searchActors": ("actors", "did"),
        "app.bsky.actor.searchActorsTypeahead": ("actors", "did"),
        "app.bsky.feed.searchPosts": ("posts", "uri"),
        "app.bsky.graph.searchStarterPacks": ("starterPacks", "uri"),
    }.get(query.nsid, ("", ""))
    if not name:
        return False
    mine, other = plain(ours), plain(theirs)
    if mine.pop("searched") != "network" or mine.pop("hitsTotal", len(mine[name])) < len(mine[name]):
        return False
    times = [[max(each.get("indexedAt", ""), "1970") for each in side[name]] for side in (mine, other)]
    times = [["1970" if time < "1970-01-01T00:00:00.001Z" else time for time in each] for each in times]
    for side in (mine, other):
        side[name].sort(key=lambda each: each[key])
    # Posts of one moment, such as those before 1970, have no order that means anything.
    return bool(mine == other) and (name == "actors" or times[0] == times[1])


def _unmoved(value: Any, edited: frozenset[str]) -> Any:
    """Without the time of those posts."""
    if isinstance(value, dict):
        moved = value.get("uri") in edited
        return {key: _unmoved(part, edited) for key, part in value.items() if not moved or key != "indexedAt"}
    return [_unmoved(part, edited) for part in value] if isinstance(value, list) else value


def _others(feed: list[Any], edited: frozenset[str]) -> dict[tuple[str, str], Any]:
    return {
        (item["post"]["uri"], item.get("reason", {}).get("uri", "")): item
        for item in feed
        if item["post"]["uri"] not in edited
    }


OURS = [
    Case("P-1", "own posts are not capped in the timeline: it is complete", _own_rows_cap),
    Case("P-2", "who follows himself sees each own post once", _doubled_self_follow),
    Case(
        "P-3",
        "a post that is written again under its key keeps its place and its reposts",
        _edited_posts_stay,
    ),
    Case("P-4", "what one account reposts twice is in the timeline once", _reposted_once),
    Case(
        "P-5", "a quote of an earlier version of a post is a quote: the list shows it", _quotes_of_any_version
    ),
    Case("P-7", "a list that was deleted lists nothing", _deleted_list),
    Case("P-8", "an edited feed or list keeps its place among the others", _edited_things_stay),
    Case("P-9", "suggestions are made from what is known here", _suggested_here),
    Case("P-11", "a search says where it looked and how much it found; followers order people", _found_here),
    Case(
        "P-10",
        "what a viewer does not want to be told isn't; subscribed posts are, and who still likes",
        _told_otherwise,
    ),
    Case("P-6", "a reply that their index lost is here", _lost_by_them),
]
