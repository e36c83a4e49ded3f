"""The operator's pages at /admin: reports, takedowns, members, and what was done. Nobody else finds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from quart import Blueprint, Response, redirect, request
from werkzeug.exceptions import Forbidden, NotFound

from appliance import telemetry
from appliance.auth.admin_door import FRESH_S, PATH, AdminDoor, Operator
from appliance.auth.budgets import Budgets, of_address
from appliance.clock import Clock
from appliance.errors import BadInput
from appliance.members import moderation
from appliance.protocol.syntax import is_did
from appliance.store import acts, bans, members, reports
from appliance.store.acts import By
from appliance.store.database import Database, Reader
from appliance.web.bodies import Body
from appliance.web.frame import Frame, json_answer

log = telemetry.Log("admin")

COOKIE = "admin"
SHOWN_MAX = 100


class Crew(Protocol):
    """What takes more than the database: ends sessions at servers, makes codes."""

    async def end_sessions(self, did: str) -> None: ...
    async def invite(self, uses: int) -> str: ...


def admin(
    frame: Frame, door: AdminDoor, database: Database, crew: Crew, clock: Clock, budgets: Budgets
) -> Blueprint:
    """The pages and their forms. Whoever may not see them is told that there are none."""
    blueprint = Blueprint("admin", __name__)
    guard = frame.guard

    async def known() -> Operator:
        found = await door.who(frame.cookie(), guard.read_cookie(request, COOKIE))
        if found is None:
            log.warning("admin_refused", path=request.path, method=request.method)
            raise NotFound
        return found

    @blueprint.after_request
    async def never_kept(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    @blueprint.get(PATH)
    async def arrive() -> Response:
        """Asks for a press of a button: programs that look at links must not use this one up."""
        return await frame.render("admin_enter.html", here="admin", link=request.args.get("token", "")[:200])

    @blueprint.post(PATH)
    async def enter() -> Any:
        """Open the pages to whoever shows a link (`link`) of `appliance member admin-link`."""
        body = await frame.checked()
        client = of_address(request.remote_addr or "")
        budgets.check("admin", client)
        cookie = door.enter(body.get("link"))
        if cookie is None:
            budgets.take("admin", client)
            log.warning("admin_link_refused")
            raise Forbidden("This link was used already, or it is too old: make a new one.")
        now_us = clock.now_us()
        by = By("link", request.remote_addr or "")
        await database.write(lambda tx: acts.add(tx, by, "enter", "/admin", "", "", now_us), durable=True)
        response = redirect("/admin", 303)
        guard.set_cookie(response, COOKIE, cookie, age_s=int(FRESH_S))  # type: ignore[arg-type]
        return response

    @blueprint.get("/admin")
    async def page() -> Response:
        """Reports that are open, members, bans, and the latest acts."""
        operator = await known()

        def look(reader: Reader) -> dict[str, Any]:
            return {
                "reports": reports.open_(reader, SHOWN_MAX),
                "members": members.listing(reader),
                "bans": bans.listing(reader),
                "acts": acts.latest(reader, SHOWN_MAX),
            }

        found = await database.read(look)
        return await frame.render(
            "admin.html", here="admin", operator=operator, told=request.args.get("told", "")[:100],
            day=_day, **found,
        )  # fmt: skip

    @blueprint.get("/admin/acts.json")
    async def log_of_acts() -> Response:
        """What was done, the latest first; `before` goes on from a number."""
        await known()
        before = request.args.get("before", "")
        if before and not (before.isdecimal() and len(before) < 16):
            raise BadInput("before is a number")
        found = await database.read(lambda r: acts.latest(r, 1000, int(before) if before else None))
        return json_answer([act._asdict() for act in found])

    async def act(do: Callable[[Body, By, int], Awaitable[str]]) -> Any:
        """Run one act of somebody who may; ``do`` gives what to say of it."""
        operator = await known()
        body = await frame.checked()
        by, now_us = By(operator.who, request.remote_addr or ""), clock.now_us()
        if not operator.fresh:
            path = request.path
            await database.write(lambda tx: acts.add(tx, by, "refused", path, "", "stale sign-in", now_us))
            raise Forbidden("Sign in again first, or use a new link: this takes a fresh sign-in.")
        told = await do(body, by, now_us)
        response = redirect("/admin", 303)
        response.headers["Location"] = f"/admin?told={told}"
        return response

    @blueprint.post("/admin/takedown")
    async def takedown() -> Any:
        """Show the account or record `subject` to nobody, for a `reason`; with `undo`, put it back."""

        async def do(body: Body, by: By, now_us: int) -> str:
            subject = body.get("subject").strip()
            if body.flag("undo"):
                work = partial(moderation.put_back, subject=subject, by=by, now_us=now_us)
            else:
                work = partial(
                    moderation.take_down, subject=subject, reason=body.get("reason"), by=by, now_us=now_us
                )
            await database.write(work, durable=True)
            return "back" if body.flag("undo") else "down"

        return await act(do)

    @blueprint.post("/admin/ban")
    async def ban() -> Any:
        """Ban the account `subject` for a `reason`; with `undo`, lift it."""

        async def do(body: Body, by: By, now_us: int) -> str:
            did = _did(body)
            if body.flag("undo"):
                work: Any = partial(moderation.lift_ban, did=did, by=by, now_us=now_us)
            else:
                reason = moderation.checked(body.get("reason"))
                await crew.end_sessions(did)
                work = partial(moderation.ban, did=did, reason=reason, by=by, now_us=now_us)
            await database.write(work, durable=True)
            return "unbanned" if body.flag("undo") else "banned"

        return await act(do)

    @blueprint.post("/admin/remove")
    async def remove() -> Any:
        """End the membership of `subject` and erase what was kept of it; `typed` is our host name."""

        async def do(body: Body, by: By, now_us: int) -> str:
            if body.get("typed").strip() != frame.origin.partition("://")[2]:
                raise BadInput("Type the name of this server to remove a member for good.")
            did = _did(body)
            await crew.end_sessions(did)
            await database.write(partial(moderation.remove, did=did, by=by, now_us=now_us), durable=True)
            return "removed"

        return await act(do)

    @blueprint.post("/admin/invite")
    async def invite() -> Any:
        """Make an invite code for so many people (`uses`)."""

        async def do(body: Body, by: By, now_us: int) -> str:
            uses = body.get("uses") or "1"
            if not uses.isdecimal() or len(uses) > 6:
                raise BadInput("How many people shall the code admit?")
            code = await crew.invite(int(uses))
            await database.write(
                lambda tx: acts.add(tx, by, "invite", code[:5] + "…", "", uses, now_us), durable=True
            )
            return code

        return await act(do)

    @blueprint.post("/admin/settle")
    async def settle() -> Any:
        """Say that the report `number` was looked at."""

        async def do(body: Body, by: By, now_us: int) -> str:
            number = body.get("number")
            if not number.isdecimal() or len(number) > 15:
                raise BadInput("That is no report.")
            work = partial(moderation.settle, report=int(number), by=by, now_us=now_us)
            await database.write(work, durable=True)
            return "settled"

        return await act(do)

    @blueprint.post("/admin/leave")
    async def leave() -> Any:
        """Shut what a link has opened."""
        await known()
        await frame.checked()
        door.leave(guard.read_cookie(request, COOKIE))
        response = redirect("/", 303)
        guard.drop_cookie(response, COOKIE)  # type: ignore[arg-type]
        return response

    return blueprint


def _did(body: Body) -> str:
    did = body.get("subject").strip()
    if not is_did(did):
        raise BadInput("Name the account by its DID.")
    return did


def _day(us: int) -> str:
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M")
