"""The Python SDK's models: whether it takes an answer."""

from __future__ import annotations

import warnings
from typing import Any

with warnings.catch_warnings():
    # Its generated models use a name of an older pydantic.
    warnings.simplefilter("ignore")
    from atproto_client import models
    from atproto_client.models.utils import get_or_create


# Their answers are a type that others use, too.
_OTHERS = {"app.bsky.actor.getProfile": models.AppBskyActorDefs.ProfileViewDetailed}


def refusal(nsid: str, body: Any) -> str | None:
    """Why the SDK would not decode the answer, as strict as it can be; None where it does."""
    model = _model(nsid)
    if model is None:
        return f"{nsid}: no model"
    try:
        get_or_create(body, model, strict=True, strict_string_format=True)
    except Exception as error:  # the SDK's own, and what pydantic raises
        return f"{nsid}: {error!r} {error.__cause__!r}"[:1000]
    return None


def _model(nsid: str) -> Any:
    name = "".join(part[0].upper() + part[1:] for part in nsid.split("."))
    return _OTHERS.get(nsid) or getattr(getattr(models, name, None), "Response", None)
