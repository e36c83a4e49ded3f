"""Events a second from the bytes of a socket to committed rows, beside only decoding the same frames.

The frames are Jetstream v2's, zstd with the published dictionary, sent by another process as fast as they
are taken. Their mix is that of bench/test_apply.py.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
import zstandard

from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.identity.identities import Identities
from appliance.ingest.apply import Applier
from appliance.ingest.jetstream_v2 import SPACE, JetstreamV2
from appliance.ingest.merge import Rules
from appliance.ingest.pipeline import Pipeline
from appliance.ingest.upstream import Inflater
from appliance.outbound.client import Outbound
from appliance.protocol import dictionaries, lexicons
from appliance.store import actors, members, repos, upstreams
from appliance.store.database import Database, Transaction
from bench import replay_server, test_apply

EVENTS = 60_000
ROUNDS = 3
MEMBERS = 1000


class ClockAt(SystemClock):
    """The machine's, moved to when the events were made."""

    def now_us(self) -> int:
        return test_apply.NOW_US


def v2_frames() -> list[bytes]:
    """The lines of the other benchmark as compressed frames, numbered from 1."""
    zstd = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(dictionaries.current()[1]))
    frames = []
    for seq, line in enumerate(test_apply.lines(EVENTS), 1):
        event = msgspec.json.decode(line)
        time_us = event["time_us"]
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_us // 1_000_000))
        payload = {
            "$type": SPACE + "commit",
            "seq": seq,
            "did": event["did"],
            "time": f"{stamp}.{time_us % 1_000_000:06d}Z",
            **event["commit"],
        }
        frames.append(zstd.compress(msgspec.json.encode({"$type": "message", "payload": payload})))
    return frames


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    return v2_frames()


@pytest.fixture(scope="module")
def port(frames: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    file = tmp_path_factory.mktemp("frames") / "frames.bin"
    file.write_bytes(b"".join(map(replay_server.framed, frames)))
    with subprocess.Popen(
        [sys.executable, "-m", "bench.replay_server", str(file)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    ) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())
        server.terminate()


def settings(folder: Path, port: int) -> Settings:
    url = f"ws://localhost:{port}/xrpc/network.bsky.jetstream.subscribeEvents"
    return Settings(data_dir=str(folder), allow_loopback=True, jetstream_urls=(url,))


async def committed(folder: Path, port: int, share: float) -> tuple[float, float, int]:
    """Seconds of wall time and of this process's CPU, and events kept."""
    chosen, clock = settings(folder, port), ClockAt()
    database = await Database.open(folder / "bench.db", readers=1)
    outbound = Outbound(chosen, clock)
    identities = Identities(database, outbound, chosen, clock)
    applier = Applier(Rules(partial(lexicons.validate_record, published=True)))

    def prepare(tx: Transaction) -> None:
        for number in range(int(test_apply.ACCOUNTS * share)):
            repos.want(tx, actors.ensure(tx, test_apply.did(number)), test_apply.NOW_US)
        # Every record of a stranger is searched for their names. Hardly any of the network names one.
        for number in range(MEMBERS):
            members.add(
                tx, actors.ensure(tx, test_apply.did(1_000_000 + number)), "operator", test_apply.NOW_US
            )
        name = f"jetstream-v2 {chosen.jetstream_urls[0]}"
        upstreams.save(tx, name, "jetstream-v2", None, test_apply.NOW_US - 3_600_000_000, 0, 1)

    await database.write(prepare)
    pipeline = Pipeline(database, outbound, identities, applier, chosen, clock)
    began_s, began_cpu_s = time.perf_counter(), _cpu_s()
    task = asyncio.create_task(pipeline.run())
    await pipeline.wait_for(seq=EVENTS)
    took = time.perf_counter() - began_s, _cpu_s() - began_cpu_s, int(pipeline.facts()["kept"])
    task.cancel()
    await asyncio.wait([task])
    await outbound.close()
    await database.close()
    return took


async def decoded(frames: list[bytes], folder: Path) -> float:
    """Seconds for decompressing and decoding alone, no socket and no rows."""
    wire = JetstreamV2(None, "ws://localhost/", folder)  # type: ignore[arg-type]  # it isn't opened
    wire._inflater = Inflater(dictionaries.current()[1])
    began_s = time.perf_counter()
    for frame in frames:
        await wire.decode(frame)
    return time.perf_counter() - began_s


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("share", [0.01, 0.10], ids=["1%", "10%"])
def test_from_the_socket_to_committed_rows(
    frames: list[bytes], port: int, tmp_path: Path, share: float, record_property: Any
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runs = []
        for number in range(ROUNDS):
            folder = tmp_path / str(number)
            folder.mkdir()
            alone_s = runner.run(decoded(frames, folder))
            runs.append((*runner.run(committed(folder, port, share)), alone_s))
    wall_s, cpu_s, kept, alone_s = sorted(runs)[len(runs) // 2]
    record_property("events_per_s", round(EVENTS / wall_s))
    print(
        f"\n{share:.0%} of accounts tracked: {EVENTS / wall_s:,.0f} events/s committed"
        f" ({EVENTS / cpu_s:,.0f} a CPU second), {kept} of {EVENTS} kept;"
        f" decoding alone {EVENTS / alone_s:,.0f} events/s"
    )
    assert kept > 0
