"""What the process says about itself: log lines and counters.

A log line is a fixed event name and fields: ``log.info("gap_found", source=s, from_us=a)``. Fields
never carry tokens or the text of posts; names and values that look like secrets are blanked.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

REGISTRY = CollectorRegistry(auto_describe=True)
METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECRET_FIELD = re.compile(r"token|password|secret|authorization|cookie|jwt|dpop|credential", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+|\b[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}\b"
)
_BLANK = "[hidden]"
_FIELD_CHARS_MAX = 2000


class Log:
    """A named source of log lines."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **fields: object) -> None:
        self._write(logging.DEBUG, event, fields, None)

    def info(self, event: str, **fields: object) -> None:
        self._write(logging.INFO, event, fields, None)

    def warning(self, event: str, **fields: object) -> None:
        self._write(logging.WARNING, event, fields, None)

    def error(self, event: str, *, trace: BaseException | None = None, **fields: object) -> None:
        """``trace`` adds the traceback of something that nobody foresaw."""
        self._write(logging.ERROR, event, fields, trace)

    def _write(self, level: int, event: str, fields: dict[str, object], trace: BaseException | None) -> None:
        if self._logger.isEnabledFor(level):
            exc_info = None if trace is None else (type(trace), trace, trace.__traceback__)
            self._logger.log(level, event, exc_info=exc_info, extra={"fields": fields})


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the log of the whole process to the stream (standard error), as ``json`` or ``text`` lines."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if form == "json" else _TextLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # These log every request or frame, with addresses; what matters of it we log ourselves.
    for chatty in ("httpx", "httpcore", "websockets", "hypercorn.access", "asyncio", "aiosqlite"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def counter(name: str, about: str, labels: Sequence[str] = ()) -> Counter:
    """A number that only rises. On a hot path add once a batch."""
    return Counter(name, about, labels, namespace="appliance", registry=REGISTRY)


def gauge(name: str, about: str, labels: Sequence[str] = ()) -> Gauge:
    """A number that goes both ways; ``set_function`` reads it only when somebody looks."""
    return Gauge(name, about, labels, namespace="appliance", registry=REGISTRY)


def histogram(name: str, about: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
    """How often values fall in which range."""
    return Histogram(name, about, labels, namespace="appliance", registry=REGISTRY, buckets=buckets)


def metrics() -> bytes:
    """Every metric in Prometheus' text format."""
    return generate_latest(REGISTRY)


def _clean(name: str, value: object) -> object:
    if _SECRET_FIELD.search(name):
        return _BLANK
    if isinstance(value, BaseException):
        value = f"{type(value).__name__}: {value}"
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", part) for part in list(value)[:50]]
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return _SECRET_VALUE.sub(_BLANK, str(value)[:_FIELD_CHARS_MAX])


def _fields_of(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    fields: Any = getattr(record, "fields", None)
    if fields is None:
        # A line of a library: its sentence becomes a field of one fixed event.
        return "library_message", {"message": _clean("", record.getMessage())}
    return record.msg, {name: _clean(name, value) for name, value in fields.items()}


class _JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _fields_of(record)
        line: dict[str, object] = {
            "time": _stamp(record, time.gmtime),
            "level": record.levelname.lower(),
            "source": record.name,
            "event": event,
            **fields,
        }
        if record.exc_info:
            line["trace"] = _SECRET_VALUE.sub(_BLANK, self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()


class _TextLines(logging.Formatter):
    """A line for a person; line breaks in values can't forge another line."""

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _fields_of(record)
        words = [_stamp(record, time.localtime)[11:23], record.levelname.lower().ljust(7), event]
        words += [f"{name}={_word(value)}" for name, value in fields.items()]
        line = " ".join(words)
        if record.exc_info:
            line += "\n" + _SECRET_VALUE.sub(_BLANK, self.formatException(record.exc_info))
        return line


def _stamp(record: logging.LogRecord, zone: Callable[[float], time.struct_time]) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", zone(record.created))
    return f"{stamp}.{int(record.msecs):03d}" + ("Z" if zone is time.gmtime else "")


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)
