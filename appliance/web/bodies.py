"""What a request brings along: the fields of a form or of a JSON body, and how it wants its answer."""

from __future__ import annotations

from typing import NamedTuple

import orjson
from quart import Request
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

FORM_HEADER = "X-Form-Token"
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
FIELDS_MAX = 50


class Body(NamedTuple):
    """Fields by name, all of them text, and the token that shows who made the form."""

    fields: dict[str, str]
    token: str

    def get(self, name: str) -> str:
        """A field, '' where it is absent."""
        return self.fields.get(name, "")

    def flag(self, name: str) -> bool:
        """A field that says yes."""
        return self.get(name) in ("1", "yes", "true", "on")


async def read(request: Request) -> Body:
    """The fields that were sent. JSON is taken only with the token in the header (AUTH WB-7)."""
    header = request.headers.get(FORM_HEADER, "")
    if request.mimetype in FORMS:
        form = await request.form
        if len(form) > FIELDS_MAX:
            raise BadRequest("That form has too many fields.")
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        return Body(fields, header or fields.get("token", ""))
    if request.mimetype == "application/json":
        try:
            value = orjson.loads(await request.get_data(cache=False))
        except orjson.JSONDecodeError:
            raise BadRequest("The body is not JSON.") from None
        if not isinstance(value, dict) or len(value) > FIELDS_MAX:
            raise BadRequest("The body has to be a JSON object.")
        return Body({name: _text(part) for name, part in value.items()}, header)
    raise UnsupportedMediaType("Send a form or JSON.")


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program: it says so, or has sent JSON itself."""
    accepted = request.accept_mimetypes
    if accepted["application/json"] > accepted["text/html"]:
        return True
    return request.mimetype == "application/json" and accepted["application/json"] > 0


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, list):
        return ",".join(part for part in value if isinstance(part, str))
    return str(value) if isinstance(value, int) else ""
