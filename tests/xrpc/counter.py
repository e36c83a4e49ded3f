"""The XRPC side over somebody's desk, called as clients call it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.timeline import labelers
from appliance.timeline.notification_views import NotificationViews
from appliance.timeline.views import Views
from appliance.xrpc import asgi, notifications, private, reads
from appliance.xrpc.member_calls import MemberCalls, member_calls
from tests.writes.desk import Desk

APP_PASSWORD = "abcd-efgh-2345-6789"


class Counter(Desk):
    def __init__(self, path: Path, clock: ManualClock | None = None, **settings: Any) -> None:
        super().__init__(path, clock)
        self.settings: Settings = msgspec.structs.replace(self.settings, **settings)

    async def open(self, stack: AsyncExitStack) -> None:
        await super().open(stack)
        views = Views(self.database, self.settings, self.clock)
        self.members: MemberCalls = member_calls(self.auth, self.repos, self.settings)
        self.app = asgi.Front(
            [
                *reads.methods(views, self.settings, "test"),
                *private.methods(self.database, self.clock),
                *notifications.methods(
                    NotificationViews(views.answering),
                    self.database,
                    self.clock,
                    lambda url: url.startswith("https://"),
                ),
            ],
            self.auth.viewers.authenticate,
            default_labelers=labelers.default(self.settings.labelers),
            rest=self.members,
            rest_has=self.members.has,
            goes_elsewhere=self.members.goes_elsewhere,
        )
        transport = httpx.ASGITransport(self.app)
        self.http = await stack.enter_async_context(
            httpx.AsyncClient(transport=transport, base_url="http://us.test")
        )

    async def get(self, nsid: str, token: str = "", **params: Any) -> httpx.Response:
        return await self.http.get(f"/xrpc/{nsid}", params=params, headers=_bearer(token))

    async def post(self, nsid: str, body: Any = None, token: str = "") -> httpx.Response:
        return await self.http.post(f"/xrpc/{nsid}", json=body, headers=_bearer(token))

    async def signed_in(self) -> dict[str, Any]:
        answer = await self.post(
            "com.atproto.server.createSession", {"identifier": "alice.test", "password": APP_PASSWORD}
        )
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}
