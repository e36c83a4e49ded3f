"""What one PDS answers with in place of the truth: states of yesterday, and exports that are not whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.devnet import records
from appliance.devnet.repository import Change, Repository
from appliance.devnet.writing import Draft
from appliance.errors import BadInput
from appliance.protocol import car

if TYPE_CHECKING:
    from appliance.devnet.pds import Pds
    from appliance.devnet.state import Hosted


def repository(pds: Pds, account: Hosted, *, listed: bool) -> Repository:
    """The state to answer with; ``listed``: for records, not for the newest rev."""
    faults, state = pds.faults, pds.state
    if account.pds != pds.number and (ghost := state.ghosts.get((pds.number, account.did))) is not None:
        faults.note("ghost", pds.requests, account.did)
        return ghost
    lag_s = max(faults.lag_s, faults.lag_lists_s if listed else 0.0)
    if lag_s and state.chronicle is not None:
        then = state.chronicle.as_of(account.did, state.clock.now_us() - round(lag_s * 1_000_000))
        if then is not None and then.rev != state.repository(account.did).rev:
            faults.note("lag", pds.requests, account.did, then.rev)
            return then
    return state.repository(account.did)


def disturb(pds: Pds, account: Hosted) -> None:
    """What happens to an account right before a page of it is read."""
    faults, state = pds.faults, pds.state
    if account.pds != pds.number:
        return
    pds.pages[account.did] += 1
    if faults.leave_at_page and pds.pages[account.did] == faults.leave_at_page:
        faults.note("leave", pds.requests, account.did)
        state.migrate(account.did, faults.leave_to)
        return
    if faults.busy_lists:
        faults.busy_lists -= 1
        faults.note("busy", pds.requests, account.did)
        _write_meanwhile(pds, account)


def _write_meanwhile(pds: Pds, account: Hosted) -> None:
    """One post more, the oldest one away, one in the middle changed."""
    state, now_us = pds.state, pds.state.clock.now_us()
    rkeys = sorted(state.repository(account.did).collections.get(records.POST, {}))

    def post(text: str) -> bytes:
        return records.post(Draft(f"{text} {pds.requests}"), now_us)

    changes = [Change(f"{records.POST}/{state.tid(pds.number)}", post("meanwhile"))]
    if len(rkeys) > 3:
        changes.append(Change(f"{records.POST}/{rkeys[0]}", None))
        changes.append(Change(f"{records.POST}/{rkeys[len(rkeys) // 2]}", post("changed meanwhile")))
    state.write(account.did, changes)


def export(pds: Pds, repository: Repository) -> bytes:
    """The repository as a CAR, or what this server has for one."""
    faults, state, did = pds.faults, pds.state, repository.did
    data = repository.export()
    if faults.swap_exports and faults.swap_exports != did:
        faults.note("swap-export", pds.requests, did, faults.swap_exports)
        data = state.repository(faults.swap_exports).export()
    elif faults.old_exports and state.chronicle is not None:
        oldest = state.chronicle.revs(did)[0]
        if oldest != repository.rev:
            faults.note("old-export", pds.requests, did, oldest)
            data = state.chronicle.repository(did, oldest).export()
    elif faults.torn_exports:
        kept = {name for name, _ in _blocks(data)}
        _write_meanwhile(pds, state.accounts[did])
        now = {name for name, _ in _blocks(state.repository(did).export())}
        faults.note("torn-export", pds.requests, did)
        data = _without(data, (kept - now) - {repository.commit})
    if faults.cut_each:
        keep = faults.fired["cut-each"] % block_count(data)
        faults.note("cut-each", pds.requests, did, str(keep))
        data = cut(data, keep)
    if faults.cut_exports:
        blocks = _blocks(data)
        keep = len(blocks) // 2 if faults.cut_after < 0 else min(faults.cut_after, len(blocks) - 1)
        faults.note("cut-export", pds.requests, did, str(keep))
        data = cut(data, max(keep, 1) if faults.cut_after < 0 else keep)
    return data


def cut(data: bytes, keep: int) -> bytes:
    """A CAR with so many of its blocks, ending where a block ends."""
    reader = _read(data)
    return car.header(reader.roots) + b"".join(car.frame(*pair) for pair in _blocks(data)[:keep])


def block_count(data: bytes) -> int:
    """How many blocks a CAR holds."""
    return len(_blocks(data))


def _without(data: bytes, gone: set[bytes]) -> bytes:
    reader = _read(data)
    kept = [pair for pair in _blocks(data) if pair[0] not in gone]
    return car.header(reader.roots) + b"".join(car.frame(*pair) for pair in kept)


def _blocks(data: bytes) -> list[tuple[bytes, bytes]]:
    reader = car.Reader()
    blocks = list(reader.feed(data))
    _close(reader)
    return blocks


def _read(data: bytes) -> car.Reader:
    reader = car.Reader()
    reader.feed(data)
    _close(reader)
    return reader


def _close(reader: car.Reader) -> None:
    try:
        reader.close()
    except BadInput as error:
        raise AssertionError("our own export is whole") from error
