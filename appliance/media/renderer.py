"""Pictures made by short-lived child processes, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys
from pathlib import Path

from appliance import telemetry
from appliance.errors import NotFound, Unavailable
from appliance.media.images import sniff

RENDERED = telemetry.counter("pictures_rendered", "Pictures made by child processes.", ["outcome"])

AT_A_TIME = 2
WITHIN_S = 20.0
# So many more may wait for their turn; whoever comes later is told to come again.
WAITING_MAX = 200
OUTPUT_BYTES_MAX = 20_000_000

# No site-packages and no environment: the two folders from which the child imports are named to it.
_CHILD = (
    "import json, sys; sys.path[:0] = json.loads(sys.argv.pop(1));"
    " from appliance.media.rendering import main; main()"
)


class Renderer:
    """``render`` scales a picture outside this process."""

    def __init__(self, *, at_a_time: int = AT_A_TIME, within_s: float = WITHIN_S) -> None:
        self._turns = asyncio.Semaphore(at_a_time)
        self._within_s = within_s
        self._waiting = 0
        self._paths = json.dumps([_folder_of("appliance"), _folder_of("PIL")])

    async def render(self, data: bytes, preset: str, form: str) -> bytes:
        """Raises NotFound for what can't be shown, Unavailable when too many wait already."""
        if self._waiting >= WAITING_MAX:
            raise Unavailable("too many pictures are being made", retry_after_s=5)
        self._waiting += 1
        outcome = "failed"
        try:
            async with self._turns:
                made = await self._child(data, preset, form)
            outcome = "refused" if made is None else "ok"
        finally:
            self._waiting -= 1
            RENDERED.labels(outcome).inc()
        # A decoder that was taken over may write anything.
        if made is None or sniff(made) != f"image/{form}":
            raise NotFound("that picture can't be shown", name="BlobNotFound")
        return made

    async def _child(self, data: bytes, preset: str, form: str) -> bytes | None:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", "-c", _CHILD, self._paths, preset, form),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
        )
        try:
            async with asyncio.timeout(self._within_s):
                made = await _talk(child, data)
                if made is not None and await child.wait() == 0:
                    return made
        except TimeoutError:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        return None


async def _talk(child: asyncio.subprocess.Process, data: bytes) -> bytes | None:
    """Give it the picture and take what it makes; None where that is too much."""
    assert child.stdin is not None
    assert child.stdout is not None
    feeding = asyncio.create_task(_feed(child.stdin, data))
    try:
        made = bytearray()
        while piece := await child.stdout.read(1 << 16):
            made += piece
            if len(made) > OUTPUT_BYTES_MAX:
                return None
        await feeding
        return bytes(made)
    finally:
        feeding.cancel()


async def _feed(pipe: asyncio.StreamWriter, data: bytes) -> None:
    # A child that has seen enough closes its end.
    with contextlib.suppress(ConnectionError):
        pipe.write(data)
        await pipe.drain()
        pipe.close()


def _folder_of(package: str) -> str:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent.parent)
