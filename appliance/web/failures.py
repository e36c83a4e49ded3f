"""What is said when something goes wrong: a status, a title and a sentence for the reader."""

from __future__ import annotations

from typing import NamedTuple

from werkzeug.exceptions import HTTPException

from appliance import errors


class Failure(NamedTuple):
    """What an error page says. ``name`` is the protocol's, for programs."""

    status: int
    title: str
    message: str
    name: str = ""


TITLES = {
    400: "That request makes no sense here",
    401: "Sign in first",
    403: "Not allowed",
    404: "Not found",
    405: "That is no page to open",
    410: "Gone",
    413: "Too large",
    415: "Not understood",
    429: "Too many requests",
    500: "Something broke on our side",
    502: "The other server did not answer well",
    503: "Not available right now",
}
MESSAGES = {
    404: "There is no such page.",
    405: "This address takes forms only.",
    413: "That is more than a form may hold.",
}
# What the reading side says about accounts and posts, by the protocol's names.
NAMED = {
    "AccountTakedown": (410, "Suspended", "This account has been suspended, here or by its server."),
    "AccountDeactivated": (410, "Deactivated", "This account is deactivated. Its owner may bring it back."),
    "NotFound": (404, "Not found", "This is deleted, or it is not known here."),
    "RecordNotFound": (404, "Not found", "This is deleted, or it is not known here."),
    "RateLimitExceeded": (429, TITLES[429], "Wait a little, then try again."),
}
STATUS_OF = {
    errors.BadInput: 400,
    errors.NotFound: 404,
    errors.Refused: 403,
    errors.Unavailable: 503,
}


def of_error(error: errors.ApplianceError) -> Failure:
    """A failure that was foreseen."""
    if error.name in NAMED:
        status, title, message = NAMED[error.name]
        return Failure(status, title, message, error.name)
    status = status_of(error)
    return Failure(status, title_of(status), error.message or "That did not work.", error.name)


def of_http(error: HTTPException) -> Failure:
    """A failure that the web framework found."""
    status = error.code or 500
    message = MESSAGES.get(status) or error.description or "The request could not be handled."
    return Failure(status, title_of(status), message, type(error).__name__)


def status_of(error: errors.ApplianceError) -> int:
    """The HTTP status that says the same."""
    if isinstance(error, errors.Refused) and error.name == errors.Refused.name:
        return 401
    if error.name == "RateLimitExceeded":
        return 429
    for kind, status in STATUS_OF.items():
        if isinstance(error, kind):
            return status
    return 500


def title_of(status: int) -> str:
    """A few words for a status."""
    return TITLES.get(status, "That did not work")
