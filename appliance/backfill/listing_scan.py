"""A snapshot by listRecords: page by page, each stored together with where the scan then stands."""

from __future__ import annotations

from appliance import crash_points
from appliance.backfill import ending, listing
from appliance.backfill.listing import Part
from appliance.backfill.pds import Pds
from appliance.backfill.tools import DAY_US, FOLLOWS, WINDOWED, Overtaken, Tools, still
from appliance.errors import ApplianceError
from appliance.ingest import snapshot
from appliance.store import backlog, collections, scans
from appliance.store.backlog import Due
from appliance.store.database import Transaction
from appliance.store.repos import Repo


class Reading:
    """One stretch of a scan, on one host. ``pages`` counts what this stretch has stored."""

    def __init__(self, tools: Tools, due: Due, repo: Repo, scan: scans.Scan, pds: Pds) -> None:
        self.pages = 0
        self._tools = tools
        self._due = due
        self._repo = repo
        self._scan = scan
        self._pds = pds

    async def first_pages(self, parts: list[Part]) -> list[Part]:
        """One page of each collection, but all follows: they say whose repositories come next."""
        left: list[Part] = []
        waiting = list(parts)
        while waiting:
            part: Part | None = waiting.pop(0)
            if part is not None and part.pages == 0:
                part = await self._page(part, [*left, *waiting])
                while part is not None and part.collection == FOLLOWS:
                    part = await self._page(part, [*left, *waiting])
            if part is not None:
                left.append(part)
        return left

    async def stretch(self, parts: list[Part], pages: int) -> list[Part]:
        """So many pages more, part after part."""
        left = list(parts)
        for _ in range(pages):
            if not left:
                break
            part = await self._page(left.pop(0), left)
            if part is not None:
                left.insert(0, part)
        return left

    async def finish(self) -> None:
        """Every collection has been read: write the certificate, if nothing stands against it."""
        try:
            exact = await self._pds.latest_rev(self._due.did) == self._scan.base_rev
        except ApplianceError:
            exact = False  # the snapshot is sound without it, only of no single rev
        await ending.finish(self._tools, self._due, self._repo, self._scan.id, exact=exact)

    async def _page(self, part: Part, others: list[Part]) -> Part | None:
        """Read a page and store it; what is left of the part."""
        window_us = self._window_us(part.collection)
        page = await listing.read(self._pds, self._due.did, part, window_us)
        number = collections.NUMBERS[part.collection]
        left = others if page.following is None else [page.following, *others]

        def store(tx: Transaction) -> None:
            still(tx, self._repo)
            now_us = self._tools.clock.now_us()
            for row in page.rows:
                snapshot.snapshot_row(
                    tx,
                    self._tools.rules,
                    self._repo.actor,
                    self._due.did,
                    number,
                    *row,
                    epoch=self._scan.epoch,
                    base_rev=self._scan.base_rev,
                    scan=self._scan.id,
                    now_us=now_us,
                )
            if page.following is None and not page.cut:
                snapshot.collection_done(
                    tx,
                    self._repo.actor,
                    number,
                    self._scan.epoch,
                    self._scan.base_rev,
                    self._scan.id,
                    now_us,
                )
            if page.cut and window_us is not None:
                backlog.left_out(tx, self._repo.actor, window_us)
            numbers = tuple(collections.NUMBERS[other.collection] for other in left)
            if not scans.move(
                tx, self._scan.id, numbers, listing.pack(left), len(page.rows), partial=page.cut
            ):
                raise Overtaken
            crash_points.reach("page-before-commit")

        await self._tools.database.write(store)
        crash_points.reach("page-after-commit")
        self.pages += 1
        return page.following

    def _window_us(self, collection: str) -> int | None:
        days = self._tools.settings.backfill_days
        # A member's own repository is read whole: what they wrote is theirs to find again.
        if days == 0 or collection not in WINDOWED or self._due.member:
            return None
        return self._scan.started_us - days * DAY_US
