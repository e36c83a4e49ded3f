"""The failures that are expected, cut by what the catcher does.

``name`` is the protocol's error name: it is what an XRPC client sees.
"""

from __future__ import annotations


class ApplianceError(Exception):
    """Anything the appliance foresees going wrong."""

    name = "InternalServerError"

    def __init__(self, message: str = "", *, name: str | None = None) -> None:
        super().__init__(message)
        if name is not None:
            self.name = name

    @property
    def message(self) -> str:
        """The sentence for whoever caused it; never a secret, never a peer's bytes."""
        return str(self.args[0]) if self.args else ""


class BadInput(ApplianceError):
    """From outside and wrong: refuse it, count it, go on."""

    name = "InvalidRequest"


class NotFound(ApplianceError):
    """It isn't there, and we know that: say so."""

    name = "NotFound"


class Refused(ApplianceError):
    """Not for this caller: say so, and no more."""

    name = "AuthenticationRequired"


class Unavailable(ApplianceError):
    """We couldn't find out: try again later.

    ``retry_after_s`` is the earliest sensible moment when the other side named one.
    """

    name = "UpstreamFailure"

    def __init__(
        self, message: str = "", *, name: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, name=name)
        self.retry_after_s = retry_after_s


class BadAnswer(Unavailable):
    """Somebody whom the caller chose answered, and the answer is of no use: 502 for the caller."""


class Corrupt(ApplianceError):
    """Our own data is wrong: stop, loudly."""
