"""A personal data server: its routes put together, and the dialect that it speaks."""

from __future__ import annotations

from collections import Counter

from appliance.devnet import pds_proxy, pds_read, pds_server, pds_sync, pds_write
from appliance.devnet.faults import PdsFaults
from appliance.devnet.http import Answer, Handler, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.options import Dialect
from appliance.devnet.pds_proxy import Proxy
from appliance.devnet.relay import NSID as SUBSCRIBE_REPOS
from appliance.devnet.relay import pds_stream
from appliance.devnet.state import Hosted, State
from appliance.devnet.streams import Stream
from appliance.devnet.tokens import Sessions

# Who sends this in x-ratelimit-bypass judges the network: no limits, no delays, no failures.
BYPASS = "devnet"
# Longer than anybody waits.
HANG_S = 3600.0


class Pds:
    """One server over the network's state."""

    def __init__(self, state: State, number: int, dialect: Dialect, stream: Stream, proxy: Proxy) -> None:
        self.state = state
        self.number = number
        self.dialect = dialect
        self.stream = stream
        self.proxy = proxy
        self.sessions = Sessions(state, number)
        self.faults = PdsFaults()
        self.requests = 0
        self.limited = 0
        self.pages: Counter[str] = Counter()
        self._window_ends_s = 0.0
        self._used = 0

    @property
    def origin(self) -> str:
        return self.state.origin(self.number)

    def find(self, name: str) -> Hosted | None:
        """An account that lives here or did, by DID or handle."""
        return self.state.account_at(self.number, name)

    def get(self, name: str) -> Hosted:
        """The same; raises RepoNotFound, also for what was deleted."""
        account = self.find(name)
        if account is None or account.status == "deleted":
            raise invalid(f"Could not find repo for DID: {name}", "RepoNotFound")
        return account

    def status(self, account: Hosted) -> str | None:
        """As this server sees it; None while active."""
        said = self.faults.echo_status.get(account.did)
        if said is not None:
            self.faults.note("echo-status", self.requests, account.did, said)
            return said
        return self.state.status_at(self.number, account)

    def require_active(self, account: Hosted) -> Hosted:
        """Raises the error that sync calls give for the status."""
        status = self.status(account)
        if status is not None:
            name = {"takendown": "RepoTakendown", "suspended": "RepoSuspended"}.get(status, "RepoDeactivated")
            raise invalid(f"Repo is not active: {status}", name)
        return account

    async def around(self, request: Request, handler: Handler) -> Answer:
        """What every request goes through: faults, the rate limit, the dialect's delay."""
        self.requests += 1
        if request.headers.get("x-ratelimit-bypass") == BYPASS:
            return await handler(request)
        if self.faults.down:
            self.faults.note("down", self.requests)
            return Answer(b"<html>bad gateway</html>", status=502, content_type="text/html")
        if self.faults.fail_every and self.requests % self.faults.fail_every == 0:
            self.faults.note("fail", self.requests, detail=request.path)
            return XrpcError(self.faults.fail_status, "ServiceUnavailable", "try again").answer()
        if self.faults.hang_every and self.requests % self.faults.hang_every == 0:
            self.faults.note("hang", self.requests, detail=request.path)
            await self.state.clock.sleep(HANG_S)
        if self.faults.storm > 0 and request.path.startswith("/xrpc/com.atproto."):
            return self._storm()
        if request.path.rpartition("/")[2] in self.faults.missing_calls:
            self.faults.note("missing-call", self.requests, detail=request.path)
            return XrpcError(501, "MethodNotImplemented", "Method Not Implemented").answer()
        delay_s = self.dialect.delay_s
        if self.faults.delay_s:
            self.faults.note("delay", self.requests)
            delay_s += self.faults.delay_s
        if delay_s:
            await self.state.clock.sleep(delay_s)
        headers = self._count() if request.path.startswith("/xrpc/") else {}
        try:
            answer = await handler(request)
        except XrpcError as error:
            answer = error.answer()
        answer.headers = headers | answer.headers
        return answer

    def _storm(self) -> Answer:
        """Too many requests, whoever asks, for a while."""
        faults = self.faults
        faults.storm -= 1
        faults.note("storm", self.requests)
        headers = {"ratelimit-limit": "10", "ratelimit-remaining": "0"}
        if faults.storm_header == "retry-after":
            headers["retry-after"] = str(round(faults.storm_wait_s))
        elif faults.storm_header == "ratelimit-reset":
            until_s = self.state.clock.now_us() / 1_000_000 + faults.storm_wait_s
            headers["ratelimit-reset"] = str(round(until_s))
        return XrpcError(429, "RateLimitExceeded", "Rate Limit Exceeded", headers).answer()

    def _count(self) -> dict[str, str]:
        if self.dialect.rate is None and not self.faults.limit:
            return {}
        allowed, window_s = self.dialect.rate or (0, 10.0)
        allowed = self.faults.limit or allowed
        now_s = self.state.clock.now_us() / 1_000_000
        if now_s >= self._window_ends_s:
            self._window_ends_s, self._used = now_s + window_s, 0
        self._used += 1
        headers = {
            "ratelimit-limit": str(allowed),
            "ratelimit-remaining": str(max(allowed - self._used, 0)),
            "ratelimit-reset": str(int(self._window_ends_s) + 1),
            "ratelimit-policy": f"{allowed};w={int(window_s)}",
        }
        if self._used > allowed:
            self.limited += 1
            if self.faults.limit:
                self.faults.note("limit", self.requests)
            wait = str(max(int(self._window_ends_s - now_s) + 1, 1))
            raise XrpcError(429, "RateLimitExceeded", "Rate Limit Exceeded", headers | {"retry-after": wait})
        return headers


def site(pds: Pds) -> Site:
    """Its HTTP side."""
    result = Site()

    async def around(request: Request, handler: Handler) -> Answer:
        try:
            return await pds.around(request, handler)
        except XrpcError as error:
            return error.answer()

    async def health(_: Request) -> Answer:
        return json_answer({"version": f"devnet-{pds.dialect.name}"})

    async def hello(_: Request) -> Answer:
        return Answer(
            f"A devnet PDS ({pds.dialect.name}). XRPC is at /xrpc/\n".encode(), content_type="text/plain"
        )

    result.around = around
    result.get("/", hello)
    result.get("/xrpc/_health", health)
    pds_server.add(result, pds)
    pds_read.add(result, pds)
    pds_write.add(result, pds)
    pds_sync.add(result, pds)
    result.sockets[SUBSCRIBE_REPOS] = pds_stream(pds.stream, pds.number)
    result.fallback = pds_proxy.fallback(pds)
    for key, handler in list(result.routes.items()):
        result.routes[key] = pds_proxy.unless_named(pds, handler)
    return result
