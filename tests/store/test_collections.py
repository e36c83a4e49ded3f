"""Numbers of collections are the same in the code and in the schema."""

import sqlite3

from appliance.protocol import lexicons
from appliance.store import collections
from appliance.store.migrations import schema_text


def test_the_schema_numbers_collections_as_the_code_does() -> None:
    connection = sqlite3.connect(":memory:")
    connection.executescript(schema_text())

    rows = connection.execute("SELECT nsid, id FROM collection").fetchall()
    connection.close()

    assert len(rows) == 20
    assert dict(rows) == collections.NUMBERS


def test_every_collection_has_a_schema_and_the_fixed_keys_that_it_says() -> None:
    for nsid, number in collections.NUMBERS.items():
        document = lexicons.document(nsid)
        assert document is not None, nsid
        fixed = document["defs"]["main"]["key"] == "literal:self"
        assert fixed == (number in collections.ONLY_SELF), nsid
