"""Who is asking, and what counts for the answer."""

from __future__ import annotations

import msgspec

from appliance.timeline.labelers import Labeler


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """``did`` is None for the public; ``operator`` sees what was taken down, too.

    For a ``member`` the network may be asked for what is not here. ``labelers`` is None when the caller
    did not name any.
    """

    did: str | None = None
    operator: bool = False
    member: bool = False
    labelers: tuple[Labeler, ...] | None = None


PUBLIC = Asker()
