"""The classes of fetch: how large, how long, how often each may be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from appliance.outbound.addresses import Ports

KB = 1024
MB = 1024 * KB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one class of fetch.

    ``body_max`` counts bytes after decompression. ``total_s`` is the whole exchange from the first
    byte sent; ``idle_s`` is a silence. ``patience_s`` is how long a request may wait for its turn.
    ``interactive`` requests have a person waiting: they have own places beside the background's, and
    don't queue behind its pace. ``rate`` replaces the setting for hosts that are known to bear more.
    """

    name: str
    body_max: int
    total_s: float
    ports: Ports = "origin"
    redirects: int = 0
    connect_s: float = 5.0
    idle_s: float = 10.0
    patience_s: float = 120.0
    interactive: bool = False
    rate: float | None = None
    in_flight: int | None = None
    bytes_per_s_min: int = 0

    def for_person(self) -> Limits:
        """The same with a person waiting for it."""
        return replace(self, interactive=True, patience_s=min(self.patience_s, self.total_s))


PLC = Limits("plc", 64 * KB, 5, ports="any", rate=20.0, in_flight=8)
DID_WEB = Limits("did_web", 64 * KB, 5, ports="https")
HANDLE_WELL_KNOWN = Limits("handle_well_known", 2 * KB, 5, ports="https", redirects=3, patience_s=20)
HANDLE_RESOLVER = Limits("handle_resolver", 2 * KB, 5, ports="any", rate=50.0, in_flight=8)
PDS_JSON = Limits("pds_json", 5 * MB, 20)
PDS_CAR = Limits("pds_car", 512 * MB, 3600, bytes_per_s_min=10 * KB)
PDS_SESSION = Limits("pds_session", 256 * KB, 15, interactive=True, patience_s=15)
PDS_WRITE = Limits("pds_write", 1 * MB, 20, interactive=True, patience_s=20)
PDS_UPLOAD = Limits("pds_upload", 64 * KB, 120, interactive=True, patience_s=20, idle_s=60)
OAUTH_METADATA = Limits("oauth_metadata", 64 * KB, 5, interactive=True, patience_s=5)
OAUTH_TOKEN = Limits("oauth_token", 64 * KB, 10, interactive=True, patience_s=10)
BLOB = Limits("blob", 10 * MB, 15, redirects=3, interactive=True, patience_s=15)
VIDEO = Limits("video", 110 * MB, 300, redirects=3, interactive=True, patience_s=15, bytes_per_s_min=50 * KB)
LINK_CARD = Limits("link_card", 512 * KB, 5, ports="web", redirects=3, interactive=True, patience_s=5)
LINK_CARD_IMAGE = replace(LINK_CARD, name="link_card_image", body_max=2 * MB)
PUSH = Limits("push", 64 * KB, 15, ports="any", rate=50.0, in_flight=8)
SERVICE = Limits("service", 1 * MB, 5, interactive=True, patience_s=5)
LABELER = Limits("labeler", 2 * MB, 20, ports="any", rate=3.0)
BACKLINKS = Limits("backlinks", 256 * KB, 10, ports="any", rate=5.0)
ARCHIVE_PLAN = Limits("archive_plan", 64 * MB, 120, ports="any", idle_s=60, rate=20.0, in_flight=4)
ARCHIVE_BLOCK = replace(
    ARCHIVE_PLAN, name="archive_block", body_max=256 * MB, total_s=600, bytes_per_s_min=10 * KB
)
ARCHIVE_SEGMENT = replace(ARCHIVE_BLOCK, name="archive_segment", body_max=8192 * MB, total_s=6 * 3600)
STREAM_HELPER = Limits("stream_helper", 1 * MB, 10, ports="any")
