"""What a method is: who may call it, with what, and the function that answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, Protocol

import msgspec

from appliance.auth.budgets import Kind
from appliance.timeline.answering import Answer
from appliance.timeline.asker import Asker


class Access(Enum):
    """Whose calls are answered. A token that is present has to be right in any case."""

    PUBLIC = "nobody is asked who he is"
    OPTIONAL = "anybody; a viewer sees more"
    REQUIRED = "viewers only"
    OPERATOR = "the operator's password only"


class Caller(Protocol):
    """Who asks, proven. ``member`` is whether anything is kept for him here."""

    @property
    def did(self) -> str: ...
    @property
    def member(self) -> bool: ...


class Authenticate(Protocol):
    """Turns an Authorization header into a caller; None without a header.

    Raises Refused for one that proves nothing, Unavailable when that couldn't be found out.
    """

    async def __call__(
        self, authorization: str | None, nsid: str, *, procedure: bool = False
    ) -> Caller | None: ...


class Call(msgspec.Struct, frozen=True):
    """One call, checked against the method's schema. Header names are lower case."""

    asker: Asker
    parameters: dict[str, Any]
    body: Any = None
    caller: Caller | None = None
    headers: Mapping[bytes, str] = msgspec.field(default_factory=dict)


class Method(msgspec.Struct, frozen=True):
    """``operator_reads``: the operator's password is taken as well, and shows what was taken down.

    ``authenticate`` stands in for the usual way from an Authorization header to a caller; it knows the
    parameters. ``counts`` names the budget that a call is taken from, where it is not the usual one.
    """

    nsid: str
    access: Access
    run: Callable[[Call], Awaitable[Answer]]
    procedure: bool = False
    operator_reads: bool = False
    authenticate: Callable[[str | None, dict[str, Any]], Awaitable[Caller | None]] | None = None
    counts: Kind | None = None
