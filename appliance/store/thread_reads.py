"""How threads hang together, beyond what a post's own row says."""

from __future__ import annotations

from appliance.store.database import Reader

CHAIN_MAX = 1000


def own_chain(reader: Reader, root: int) -> list[int]:
    """The thread's first post and the unbroken row of its author's answers to himself.

    Of several answers the one with the lowest key goes on. Empty where the author did not.
    """
    rows = reader.all(
        "WITH RECURSIVE chain (id, actor, place) AS ("
        " SELECT id, actor, 1 FROM post WHERE id = ?1"
        " UNION ALL SELECT (SELECT p.id FROM post p JOIN record r ON r.id = p.id"
        "  WHERE p.parent = chain.id AND p.actor = chain.actor AND p.root = ?1"
        "  ORDER BY r.rkey LIMIT 1), chain.actor, chain.place + 1"
        " FROM chain WHERE chain.id IS NOT NULL AND chain.place < ?2)"
        " SELECT id FROM chain WHERE id IS NOT NULL ORDER BY place",
        (root, CHAIN_MAX),
    )
    chain = list(dict.fromkeys(row[0] for row in rows))
    return chain if len(chain) > 1 else []


def known_likers(reader: Reader, viewer: int, post: int, among: int) -> list[int]:
    """Of the last so many who liked the post, those whom the viewer follows."""
    rows = reader.all(
        "SELECT l.actor FROM (SELECT actor, sort_ms, tie FROM link INDEXED BY link_by_subject"
        "  WHERE kind = 1 AND subject = ?2 AND waiting = 0 ORDER BY sort_ms DESC, tie DESC LIMIT ?3) AS l"
        " WHERE EXISTS (SELECT 1 FROM link f INDEXED BY link_pair"
        "  WHERE f.kind = 3 AND f.actor = ?1 AND f.subject = l.actor AND f.waiting = 0)"
        " ORDER BY l.sort_ms DESC, l.tie DESC",
        (viewer, post, among),
    )
    return [row[0] for row in rows]
