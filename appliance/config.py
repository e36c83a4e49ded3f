"""Settings: one TOML file and environment variables of the same names.

Each field of ``Settings`` is one setting; its name in the file and in the environment is the
field's name in capitals. The environment wins. docs/configuration.md is generated from here.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from appliance.errors import BadInput

JETSTREAM_DEFAULTS = (
    "wss://jetstream.us-east.bsky.network/xrpc/network.bsky.jetstream.subscribeEvents",
    "wss://jetstream.us-west.bsky.network/xrpc/network.bsky.jetstream.subscribeEvents",
)

_LIMIT = re.compile(r"([0-9]{1,6})/(second|minute|hour|day) ([0-9]{1,6})")
_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}


def _setting(about: str) -> Meta:
    return Meta(description=about)


class Settings(Struct, frozen=True, kw_only=True):
    """Everything an operator can choose. Defaults suit the real network."""

    # fmt: off
    data_dir: Annotated[str, _setting("Folder of the database, keys and caches; put it on the volume.")] = "data"
    bind: Annotated[str, _setting("Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, _setting("Port to listen on; 0 takes a free one."), Meta(ge=0, le=65535)] = 2580
    appview_hostname: Annotated[str, _setting("Public host name. Needed for a service DID on the real network.")] = ""
    appview_did: Annotated[str, _setting("Our service DID, the audience of service tokens. Default: did:web of the host name.")] = ""
    public_url: Annotated[str, _setting("Origin under which browsers and clients reach us. Default: https:// and the host name, or the listening address.")] = ""
    image_url: Annotated[str, _setting("Base of image addresses. Default: our own origin and /img.")] = ""
    video_url: Annotated[str, _setting("Base of video addresses. Default: our own origin and /vid.")] = ""

    upstream: Annotated[Literal["auto", "jetstream", "relay"], _setting("Which kind of stream to read. auto: the relay where RELAY_URL is set and JETSTREAM_URLS is not, else Jetstream.")] = "auto"
    jetstream_urls: Annotated[tuple[str, ...], _setting("Jetstream addresses in order of preference; a path ending in /subscribe speaks v1, one ending in subscribeEvents speaks v2.")] = JETSTREAM_DEFAULTS
    relay_url: Annotated[str, _setting("Relay or PDS whose subscribeRepos is read, e.g. wss://bsky.network; several, with commas between, in order of preference.")] = ""
    coverage: Annotated[Literal["auto", "full", "dids"], _setting("Whose events are read from Jetstream. full: everybody's, and whom nobody follows is left out here; it costs the whole stream, and a new follow is covered at once. dids: only a list of the accounts that members follow is asked for, which costs a tenth or less; a new follow is covered once a new connection has proved it, some seconds later, and everybody's events are read all the same while the list is too long or changes too often. auto: full. A relay has no lists.")] = "auto"
    coverage_accounts_max: Annotated[int, _setting("With COVERAGE=dids: with more accounts than that everybody's events are read, until for a day there are fewer than seven ninths of it."), Meta(ge=1, le=28_500)] = 9_000
    host_sampling_minutes: Annotated[float, _setting("With two or more JETSTREAM_URLS: so often a second host is read beside the first for a minute, to see whether one hides something; 0 never."), Meta(ge=0)] = 10.0
    archive_url: Annotated[str, _setting("Origin of a Jetstream v2 archive for the history of many accounts at once. Default: that of the first v2 address in JETSTREAM_URLS where ARCHIVE_TOKEN is set, else no archive is read.")] = ""
    archive_token: Annotated[str, _setting("Token of the archive; sent to it alone.")] = ""
    archive_accounts_min: Annotated[int, _setting("So many new accounts must wait before the archive is asked for their history."), Meta(ge=1)] = 200
    plc_url: Annotated[str, _setting("PLC directory.")] = "https://plc.directory"
    handle_resolvers: Annotated[tuple[str, ...], _setting("Origins asked for handles by XRPC resolveHandle; honoured only with ALLOW_LOOPBACK.")] = ()
    allow_loopback: Annotated[bool, _setting("Talk to addresses of this machine over http: for devnet and tests only. Refuses a public host name.")] = False

    admission: Annotated[Literal["allow-list", "invite", "open"], _setting("Who may become a member by signing in.")] = "allow-list"
    members: Annotated[tuple[str, ...], _setting("DIDs and handles on the allow-list; * admits every account.")] = ()
    members_max: Annotated[int, _setting("Members at most."), Meta(ge=1)] = 1000
    xrpc_sessions: Annotated[bool, _setting("Answer createSession at our own origin.")] = True
    oauth: Annotated[bool, _setting("Offer signing in by OAuth on the website; it needs a public https origin.")] = True
    main_passwords: Annotated[bool, _setting("Take an account's main password at createSession too, not app passwords alone.")] = False
    session_secret: Annotated[str, _setting("Key of sessions and sealed tokens. Better left empty: a key file is then made in DATA_DIR.")] = ""
    admin_password: Annotated[str, _setting("Password of Basic admin calls; empty switches them off.")] = ""
    admins: Annotated[tuple[str, ...], _setting("DIDs of members to whom /admin is open; to act there they must have signed in within a quarter of an hour, or follow a link of `appliance member admin-link`.")] = ()
    labelers: Annotated[tuple[str, ...], _setting("DIDs of labelers applied when a client names none.")] = ("did:plc:ar7c4by46qjdydhdevvrndac",)
    constellation_url: Annotated[str, _setting("Origin of an index of backlinks that speaks Constellation's wire, e.g. https://constellation.microcosm.blue: numbers of everybody's likes, reposts, answers, quotes and followers are asked of it for what members look at, and marked where they are shown. It learns which posts those are. Empty: only what is known here is counted.")] = ""
    verifiers: Annotated[tuple[str, ...], _setting("DIDs of accounts whose verifications of others are shown, as with the blue tick of the official app. Empty: nobody's.")] = ()
    labeler_streams_max: Annotated[int, _setting("So many labelers are listened to at most: those of LABELERS, then those that most members ask for. 0: none, and no labels but what authors say themselves."), Meta(ge=0, le=500)] = 32

    store_scope: Annotated[Literal["tracked", "network"], _setting("Keep tracked accounts only, or everything the stream carries.")] = "tracked"
    data_retention_days: Annotated[int, _setting("Strangers' records that nothing tracked shows any more go after this many days."), Meta(ge=1)] = 30
    backfill_days: Annotated[int, _setting("History fetched for an account, in days; 0 is all of it."), Meta(ge=0)] = 0
    low_space_mb: Annotated[int, _setting("Warn when the disk of DATA_DIR has less room left than this."), Meta(ge=0)] = 1024
    unfollow_grace_hours: Annotated[float, _setting("Rows of an account that nobody follows any more stay this long."), Meta(ge=0)] = 24.0

    canary_dids: Annotated[tuple[str, ...], _setting("DIDs of accounts known to post: when the stream shows none of them for CANARY_MINUTES that is an alarm. Empty: those who post most here. Lists (COVERAGE=dids) ask for them as well, and a connection on which none of them is heard for ten minutes is given up.")] = ()
    canary_minutes: Annotated[int, _setting("How long the stream may show nothing of any canary; of those who post rarely longer."), Meta(ge=1)] = 60

    commit_every_ms: Annotated[int, _setting("Stream rows are committed at least this often."), Meta(ge=1)] = 250
    commit_events_max: Annotated[int, _setting("Stream rows are committed after this many events."), Meta(ge=1)] = 500
    ingest_queue_mb: Annotated[int, _setting("Events waiting for the writer; when full the socket is not read."), Meta(ge=1)] = 32
    readers: Annotated[int, _setting("Read-only connections."), Meta(ge=1, le=16)] = 2
    cache_mb: Annotated[int, _setting("In-process cache of rendered fragments."), Meta(ge=1)] = 128

    outbound_per_host: Annotated[int, _setting("Requests in flight to one host."), Meta(ge=1)] = 2
    outbound_total: Annotated[int, _setting("Requests in flight in all."), Meta(ge=1)] = 32
    outbound_rate_per_host: Annotated[float, _setting("Requests a second to one host, before its own limits."), Meta(gt=0)] = 5.0
    car_max_mb: Annotated[int, _setting("Largest repository export that is read."), Meta(ge=1)] = 512

    rate_limits: Annotated[Literal["on", "off"], _setting("Limits on callers, each LIMIT_… below: so many in the long run, and so many at once. Off refuses a public host name.")] = "on"
    limit_member: Annotated[str, _setting("XRPC of one account that has proved itself. Counted by account and not by address: all accounts of a PDS come from one.")] = "300/minute 120"
    limit_search: Annotated[str, _setting("Searches and completions of one account, or of one address where nobody is signed in.")] = "60/minute 30"
    limit_guest: Annotated[str, _setting("XRPC without a token, of one address (of IPv6 a /64). Who comes from this machine itself is not counted: the proxy has to name addresses in X-Forwarded-For.")] = "120/minute 60"
    limit_bad_tokens: Annotated[str, _setting("Tokens of one address that prove nothing; beyond it none is looked at.")] = "60/minute 60"
    limit_pages: Annotated[str, _setting("Pages of one browser that is signed in.")] = "120/minute 60"
    limit_guest_pages: Annotated[str, _setting("Pages of one address without signing in.")] = "60/minute 40"
    limit_pictures: Annotated[str, _setting("Pictures and videos of one address.")] = "1200/minute 300"
    limit_writes: Annotated[str, _setting("What one account has written at its server from here.")] = "60/minute 30"
    limit_uploads: Annotated[str, _setting("Uploads of one account.")] = "180/hour 30"
    limit_exports: Annotated[str, _setting("Exports of one account.")] = "5/hour 5"
    sign_in_tries: Annotated[int, _setting("Wrong passwords for one account from one address in a quarter of an hour; beyond it that address waits."), Meta(ge=1, le=1000)] = 5
    sign_in_tries_address: Annotated[int, _setting("The same for one address, whatever the account."), Meta(ge=1, le=1000)] = 20
    limit_reports: Annotated[str, _setting("Reports of one account to the moderators.")] = "10/minute 10"
    limit_admin: Annotated[str, _setting("Wrong passwords of the operator and links to /admin that are none, of one address.")] = "20/hour 5"
    health_stalled_s: Annotated[float, _setting("/health says 503 once waiting events have not moved, or the database has refused, for so many seconds."), Meta(gt=0)] = 30.0
    ready_lag_max_s: Annotated[float, _setting("/ready says 503 once the stream has not been live for so many seconds. A quiet stream is live."), Meta(gt=0)] = 60.0
    ready_doubt_max_hours: Annotated[float, _setting("/ready says 503 once a doubt about an account has been open for so many hours; 0 never does."), Meta(ge=0)] = 24.0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _setting("Least important log line written.")] = "info"
    log_format: Annotated[Literal["json", "text"], _setting("Log lines for a machine or for a person.")] = "json"
    # fmt: on

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)

    @property
    def reads_relay(self) -> bool:
        """Whether the stream to read is RELAY_URL's."""
        if self.upstream == "auto":
            return bool(self.relay_urls) and self.jetstream_urls == JETSTREAM_DEFAULTS
        return self.upstream == "relay"

    @property
    def relay_urls(self) -> tuple[str, ...]:
        """The hosts of RELAY_URL, in order of preference."""
        return tuple(url.strip() for url in self.relay_url.split(",") if url.strip())

    @property
    def archive_origin(self) -> str:
        """Where the archive is; empty when none is read."""
        if self.archive_url:
            return self.archive_url.rstrip("/")
        if self.archive_token:
            for url in self.jetstream_urls:
                parts = urlsplit(url)
                if parts.path.endswith("subscribeEvents"):
                    return f"{'http' if parts.scheme == 'ws' else 'https'}://{parts.netloc}"
        return ""

    @property
    def origin(self) -> str:
        """Our public origin, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        if self.appview_hostname:
            return f"https://{self.appview_hostname}"
        return f"http://localhost:{self.port}"

    @property
    def service_did(self) -> str:
        """Our DID as a service."""
        if self.appview_did:
            return self.appview_did
        if self.appview_hostname:
            return f"did:web:{self.appview_hostname}"
        return f"did:web:localhost%3A{self.port}"

    @property
    def service_audiences(self) -> frozenset[str]:
        """The exact spellings of us that a service token may name (AUTH SJ-6)."""
        return frozenset({self.service_did, f"{self.service_did}#bsky_appview"})

    @property
    def feed_audiences(self) -> frozenset[str]:
        """The same where we are asked as a feed generator."""
        return frozenset({self.service_did, f"{self.service_did}#bsky_fg"})


def load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """Read the file, if any, then the environment. Raises BadInput that names the setting."""
    values: dict[str, Any] = {}
    fields = {f.name: f for f in msgspec.structs.fields(Settings)}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"settings file {path}: {error}") from error
        for name, value in table.items():
            if name.lower() not in fields:
                raise BadInput(f"settings file {path}: there is no setting {name}")
            values[name.lower()] = value
    for name in fields:
        text = environment.get(name.upper())
        if text is not None:
            values[name] = text
            if _is_list(fields[name].type):
                values[name] = [part.strip() for part in text.split(",") if part.strip()]
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(f"settings: {error}") from error
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Refuse combinations that would be dangerous or can't work."""
    public = settings.appview_hostname and settings.appview_hostname != "localhost"
    host = urlsplit(settings.public_url).hostname or ""
    public = public or not (host in ("", "localhost") or _is_loopback(host))
    if public and settings.allow_loopback:
        raise BadInput("ALLOW_LOOPBACK is for devnet: it can't go with a public host name")
    if public and settings.rate_limits == "off":
        raise BadInput("RATE_LIMITS=off is for devnet: it can't go with a public host name")
    for field in msgspec.structs.fields(Settings):
        if field.name.startswith("limit_"):
            try:
                parse_limit(getattr(settings, field.name))
            except BadInput as error:
                raise BadInput(f"{field.name.upper()}: {error.message}") from error
    if settings.upstream == "relay" and not settings.relay_urls:
        raise BadInput("UPSTREAM=relay needs a RELAY_URL")
    archive = urlsplit(settings.archive_url)
    if settings.archive_url and (
        archive.scheme not in ("http", "https") or not archive.netloc or archive.path.strip("/")
    ):
        raise BadInput("ARCHIVE_URL is an origin: https:// and a host name")
    outside = urlsplit(settings.constellation_url)
    if settings.constellation_url and (
        outside.scheme not in ("http", "https") or not outside.netloc or outside.path.strip("/")
    ):
        raise BadInput("CONSTELLATION_URL is an origin: https:// and a host name")
    if settings.handle_resolvers and not settings.allow_loopback:
        raise BadInput("HANDLE_RESOLVERS is honoured only with ALLOW_LOOPBACK")


class Limit(Struct, frozen=True):
    """So many requests a second in the long run, and so many at once."""

    rate: float
    burst: int


def parse_limit(text: str) -> Limit:
    """A limit as the settings have it: "300/minute 120". Raises BadInput."""
    found = _LIMIT.fullmatch(text.strip())
    if found is None or int(found[1]) < 1 or int(found[3]) < 1:
        raise BadInput(f'a limit is written like "300/minute 120", and not "{text}"')
    return Limit(int(found[1]) / _SECONDS[found[2]], int(found[3]))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_list(annotation: Any) -> bool:
    return "tuple" in str(annotation)
