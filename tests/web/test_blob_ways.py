"""getBlob leads to the owner's server, for what is shown here and for nothing else."""

from urllib.parse import urlencode

from quart import Quart

from appliance.errors import NotFound, Unavailable
from appliance.web.blobs import PATH, blobs


async def test_a_blob_is_led_to_and_what_is_not_shown_is_refused_by_name() -> None:
    async def locate(did: str, cid: str) -> str:
        if did == "did:plc:away":
            raise Unavailable("nobody answers")
        if cid != "known":
            raise NotFound("no record here shows that blob", name="BlobNotFound")
        return f"https://pds.example/xrpc/com.atproto.sync.getBlob?{urlencode({'did': did, 'cid': cid})}"

    app = Quart("test")
    app.register_blueprint(blobs(locate))
    client = app.test_client()

    answer = await client.get(f"{PATH}?did=did:plc:a&cid=known")
    assert answer.status_code == 302
    assert answer.headers["Location"].endswith("getBlob?did=did%3Aplc%3Aa&cid=known")
    answer = await client.get(f"{PATH}?did=did:plc:a&cid=other")
    assert (answer.status_code, (await answer.get_json())["error"]) == (400, "BlobNotFound")
    assert (await client.get(PATH)).status_code == 400
    assert (await client.get(f"{PATH}?did=did:plc:away&cid=known")).status_code == 502
