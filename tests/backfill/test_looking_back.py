"""A new member is told of what is here already, whatever happens in between."""

from pathlib import Path

from appliance.backfill.looking_back import IDS_PER_READ, LookingBack
from appliance.store import actors, members
from appliance.store.database import Reader
from tests.timeline.village import did, village


def told(reader: Reader) -> list[int]:
    return sorted(row[0] for row in reader.all("SELECT reason FROM notification"))


async def test_a_new_member_is_told_of_what_was_here_and_of_what_comes_meanwhile(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        root = await place.post("ann")
        await place.like("bob", root)
        reply = await place.reply("bob", root)
        await place.mark(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO record (actor, collection, rkey, state) SELECT 1, 1, 'x' || i, 0 FROM n",
            IDS_PER_READ,
        )
        await place.database.write(lambda tx: members.add(tx, actors.ensure(tx, did("ann")), "open", 5))
        looking = LookingBack(place.database, place.clock)
        assert await place.database.read(told) == []

        await place.follow("bob", "ann")
        await place.delete(reply)
        assert await place.database.read(told) == [6]
        steps = 0
        while await looking.step():
            steps += 1
            # Begun again after a crash it goes on where it stood.
            looking = LookingBack(place.database, place.clock)

        assert steps == 2
        assert await place.database.read(told) == [4, 6]
        assert not await looking.step()


async def test_there_is_nothing_to_look_through_in_an_empty_house(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.database.write(lambda tx: members.add(tx, actors.ensure(tx, did("ann")), "open", 5))

        assert not await LookingBack(place.database, place.clock).step()
