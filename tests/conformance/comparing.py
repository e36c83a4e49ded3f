"""Two answers side by side: what is the same however it is spelled, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_CURSOR = re.compile(r"(-?[0-9]+)__([a-z2-7]{19})[a-z2-7]*(?:__[0-9]+)?")


def plain(value: Any) -> Any:
    """Without nulls: missing and null are the same. Cursors in their common spelling.

    Bookmarks were made by the clock of the recorded server: neither their time nor their key can agree.
    """
    if isinstance(value, dict):
        if isinstance(value.get("bookmarks"), list):
            value = value | {"bookmarks": [entry | {"createdAt": ""} for entry in value["bookmarks"]]}
            value |= {"cursor": "there is more"} if value.get("cursor") else {}
        return {
            key: _cursor(part) if key == "cursor" else plain(part)
            for key, part in value.items()
            if part is not None
        }
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def _cursor(text: Any) -> Any:
    # C-1 of differences.py: ours names the deciding characters of the cid only.
    match = _CURSOR.fullmatch(text) if isinstance(text, str) else None
    return f"{match[1]}__{match[2]}" if match else text


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """One line for each place where they differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in sorted({*ours, *theirs}):
            here = f"{path}.{key}"
            if key not in ours:
                yield f"{here}: we lack {_short(theirs[key])}"
            elif key not in theirs:
                yield f"{here}: we add {_short(ours[key])}"
            else:
                yield from differences(ours[key], theirs[key], here)
    elif isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            yield f"{path}: we have {len(ours)} entries, they have {len(theirs)}"
        for place, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from differences(one, other, f"{path}[{place}]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield f"{path}: {_short(ours)} where they have {_short(theirs)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:157]}…"
