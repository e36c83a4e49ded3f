"""Lists of ids in statements: a few fixed lengths, so that the statements stay prepared."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)


def marks(count: int, each: str = "?") -> str:
    """That many placeholders."""
    return ",".join([each] * count)


def batches(ids: Collection[int]) -> Iterator[tuple[str, list[int]]]:
    """Placeholders and ids, padded by repeating the last one: for ``x IN (…)``."""
    todo = list(ids)
    for start in range(0, len(todo), _SIZES[-1]):
        part = todo[start : start + _SIZES[-1]]
        size = next(s for s in _SIZES if s >= len(part))
        part.extend([part[-1]] * (size - len(part)))
        yield _MARKS[size], part


def text_batches(texts: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """As ``batches``, for texts."""
    todo = list(texts)
    for start in range(0, len(todo), _SIZES[-1]):
        part = todo[start : start + _SIZES[-1]]
        size = next(s for s in _SIZES if s >= len(part))
        part.extend([part[-1]] * (size - len(part)))
        yield _MARKS[size], part


def pair_batches(pairs: Collection[tuple[int, int]]) -> Iterator[tuple[str, list[int]]]:
    """Rows for ``VALUES``, padded by repeating the last one."""
    todo: Sequence[tuple[int, int]] = list(pairs)
    for start in range(0, len(todo), 256):
        part = list(todo[start : start + 256])
        size = next(s for s in _SIZES if s >= len(part))
        part.extend([part[-1]] * (size - len(part)))
        yield _PAIR_MARKS[size], [number for pair in part for number in pair]


_MARKS = {size: marks(size) for size in _SIZES}
_PAIR_MARKS = {size: marks(size, "(?,?)") for size in _SIZES if size <= 256}
