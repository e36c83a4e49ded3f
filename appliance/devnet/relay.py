"""The relay, and each PDS's own stream: com.atproto.sync.subscribeRepos.

Wire: https://atproto.com/specs/event-stream and https://atproto.com/specs/sync
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from appliance.devnet import wire
from appliance.devnet.http import Answer, Request, Site, XrpcError, invalid, json_answer
from appliance.devnet.log import RELAY_SEQ_BASE, EventLog, Told
from appliance.devnet.state import Hosted, State
from appliance.devnet.stream_server import StreamServer
from appliance.devnet.streams import Socket, Stream
from appliance.protocol import cid, firehose

NSID = "/xrpc/com.atproto.sync.subscribeRepos"
SEQ_MAX = 2**53


def relay_server(state: State, stream: Stream) -> StreamServer:
    """All PDSs' events in one order, under the relay's own numbers."""
    log = stream.log

    def open_stream(request: Request) -> Callable[[Socket], Awaitable[None]]:
        cursor = read_cursor(request)
        newest = RELAY_SEQ_BASE + log.end - 1

        async def run(socket: Socket) -> None:
            start = await begin(
                socket,
                stream,
                cursor=cursor,
                newest=newest,
                oldest=RELAY_SEQ_BASE + stream.floor(),
            )
            if start is not None:
                await serve(socket, stream, max(start - RELAY_SEQ_BASE, 1), wire.relay_rows)

        return run

    return StreamServer(_relay_site(state), {NSID: open_stream})


def pds_stream(stream: Stream, pds: int) -> Callable[[Socket, Request], Awaitable[None]]:
    """One PDS's events under its own numbers."""
    log = stream.log

    def rows(told: Told) -> list[wire.Row]:
        if told.event.pds != pds:
            return []
        return [wire.repository_row(told, told.event.pds_seq)]

    async def run(socket: Socket, request: Request) -> None:
        try:
            cursor = read_cursor(request)
        except XrpcError as error:
            await refuse(socket, error.name, error.message)
            return
        start = await begin(
            socket,
            stream,
            cursor=cursor,
            newest=log.pds_end(pds) - 1,
            oldest=_first_seq(log, pds, stream.floor()),
        )
        if start is not None:
            await serve(socket, stream, _number(log, pds, start), rows)

    return run


def read_cursor(request: Request) -> int | None:
    """The seq that the reader saw last; None starts with what is new."""
    text = request.find("cursor")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or int(text) >= SEQ_MAX:
        raise invalid("Error: cursor must be an integer")
    return int(text)


async def begin(
    socket: Socket, stream: Stream, *, cursor: int | None, newest: int, oldest: int
) -> int | None:
    """The first seq to send; None where the stream was refused."""
    if cursor is None:
        return newest + 1
    if cursor > newest and not stream.faults.silent_clamp:
        await refuse(socket, "FutureCursor", "Cursor in the future.")
        return None
    if cursor + 1 >= oldest:
        return min(cursor, newest) + 1
    if cursor > 0 and not stream.faults.silent_clamp:
        body = {"name": "OutdatedCursor", "message": "Requested cursor exceeded limit."}
        await socket.send_bytes(firehose.encode_frame("#info", body))
    stream.faults.note("clamp", cursor)
    return oldest


async def serve(socket: Socket, stream: Stream, start: int, rows: Callable[[Told], list[wire.Row]]) -> None:
    """From event ``start`` on."""

    async def send(_: Told, row: wire.Row) -> None:
        await socket.send_bytes(row.data)

    await stream.serve(socket, start, rows, send)


async def refuse(socket: Socket, name: str, message: str) -> None:
    """An error frame, then the end."""
    await socket.send_bytes(firehose.encode_frame("error", {"error": name, "message": message}))
    await socket.close(1008, name)


def _first_seq(log: EventLog, pds: int, floor: int) -> int:
    numbers = log.of_pds(pds)
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if numbers[middle] < floor else (low, middle)
    return low + 1


def _number(log: EventLog, pds: int, seq: int) -> int:
    """Number of the PDS's event with that seq, or the next number of all."""
    numbers = log.of_pds(pds)
    return numbers[seq - 1] if seq <= len(numbers) else log.end


def _relay_site(state: State) -> Site:
    site = Site()

    def get(request: Request) -> Hosted:
        account = state.accounts.get(request.get("did"))
        if account is None or account.repository is None:
            raise XrpcError(404, "RepoNotFound", "account not found")
        return account

    def describe(account: Hosted) -> dict[str, object]:
        known = {"did": account.did, "active": account.active}
        return known if account.active else known | {"status": account.status}

    async def status(request: Request) -> Answer:
        account = get(request)
        rev = {"rev": state.repository(account.did).rev} if account.active else {}
        return json_answer(describe(account) | rev)

    async def latest(request: Request) -> Answer:
        account = get(request)
        if not account.active:
            raise XrpcError(403, f"Repo{(account.status or '').capitalize()}", "account is not active")
        repository = state.repository(account.did)
        return json_answer({"cid": cid.to_text(repository.commit), "rev": repository.rev})

    async def repos(request: Request) -> Answer:
        limit, at = request.limit(500, 1000), request.find("cursor") or "0"
        if not at.isdigit():
            raise invalid("malformed cursor")
        known = [account for account in state.accounts.values() if account.repository is not None]
        page = known[int(at) : int(at) + limit]
        listed = []
        for account in page:
            repository = state.repository(account.did)
            head = {"head": cid.to_text(repository.commit), "rev": repository.rev}
            listed.append(describe(account) | head)
        more = {"cursor": str(int(at) + limit)} if len(page) == limit else {}
        return json_answer(more | {"repos": listed})

    async def repo(request: Request) -> Answer:
        account = get(request)
        to = f"{state.origin(account.pds)}/xrpc/com.atproto.sync.getRepo?{request.query_text}"
        return Answer(status=302, headers={"location": to})

    async def by_collection(request: Request) -> Answer:
        collection = request.get("collection")
        dids = [
            account.did
            for account in state.accounts.values()
            if account.repository is not None
            and account.active
            and collection in account.repository.collections
        ]
        return json_answer({"repos": [{"did": did} for did in dids]})

    site.get("/xrpc/_health", _health)
    site.get("/xrpc/com.atproto.sync.getRepoStatus", status)
    site.get("/xrpc/com.atproto.sync.getLatestCommit", latest)
    site.get("/xrpc/com.atproto.sync.listRepos", repos)
    site.get("/xrpc/com.atproto.sync.getRepo", repo)
    site.get("/xrpc/com.atproto.sync.listReposByCollection", by_collection)
    return site


async def _health(_: Request) -> Answer:
    return json_answer({"status": "ok"})
