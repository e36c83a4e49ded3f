"""What somebody learns of our inside from what we can't fetch: nothing."""

import re
import socket

from appliance.errors import ApplianceError
from appliance.outbound.client import Outbound
from appliance.outbound.limits import PDS_JSON
from tests.scripted import Names, Server

TELLS = re.compile(r"\d{2,}|127\.|::1|errno|refused|timed out|certificate|ssl|OSError|\[", re.IGNORECASE)


async def told(outbound: Outbound, url: str) -> str:
    try:
        await outbound.get(url, limits=PDS_JSON)
    except ApplianceError as error:
        return error.message
    raise AssertionError(url)


async def test_t95_what_cannot_be_reached_is_told_by_class_alone(
    public: Outbound, outbound: Outbound, names: Names, server: Server
) -> None:
    for number, address in enumerate(["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "fd00::1"]):
        names.known[f"inside{number}.net"] = [address]
    inside = {await told(public, f"https://inside{number}.net:8443/") for number in range(5)}
    assert len(inside) == 1, "which kind of inside it is stays ours"

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    server.says(b"no http at all\r\n\r\n")
    ours = [await told(outbound, f"http://localhost:{port}/") for port in (closed, server.port)]
    for message in (*inside, *ours, await told(public, "https://nobody-here.net/")):
        assert message
        assert not TELLS.search(message), message
