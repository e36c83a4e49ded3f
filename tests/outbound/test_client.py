"""The guarded client, on real sockets."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ssl
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import httpcore
import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import BadInput, Unavailable
from appliance.outbound import client as client_module
from appliance.outbound.client import Declined, NotSent, Outbound
from appliance.outbound.limits import BLOB, HANDLE_WELL_KNOWN, PDS_CAR, PDS_JSON
from tests.scripted import Names, Server, reply


async def test_an_answer_has_status_headers_and_body(outbound: Outbound, server: Server) -> None:
    server.says(reply(400, b'{"error":"RepoNotFound","message":"x"}', X_Thing="a", set_cookie="a=b"))
    answer = await outbound.get(f"{server.url}/xrpc/a", limits=PDS_JSON, params={"repo": "did:plc:a"})
    assert (answer.status, answer.ok, answer.headers["x-thing"]) == (400, False, "a")
    assert answer.error_name() == "RepoNotFound"
    first, headers = server.requests[0]
    assert first == "GET /xrpc/a?repo=did%3Aplc%3Aa HTTP/1.1"
    assert headers["accept-encoding"] == "gzip"
    assert headers["user-agent"].startswith("appliance")
    await outbound.get(f"{server.url}/again", limits=PDS_JSON)
    assert "cookie" not in server.requests[1][1]
    assert server.connections == 1


async def test_a_post_carries_its_body_and_is_not_sent_twice(outbound: Outbound, server: Server) -> None:
    async def cut(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 2:
            writer.transport.abort()
        else:
            writer.write(reply(200, b"{}"))

    server.handler = cut
    await outbound.post(
        f"{server.url}/a", limits=PDS_JSON, json={"x": [1]}, headers={"Authorization": "Bearer t"}
    )
    assert server.bodies[0] == b'{"x":[1]}'
    assert server.requests[0][1]["content-type"] == "application/json"
    assert server.requests[0][1]["authorization"] == "Bearer t"
    with pytest.raises(Unavailable):
        await outbound.post(f"{server.url}/a", limits=PDS_JSON, content=b"x")
    assert len(server.requests) == 2


async def test_a_read_is_asked_again_when_a_kept_connection_was_cut(
    outbound: Outbound, server: Server
) -> None:
    async def cut(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if len(server.requests) == 2:
            writer.transport.abort()
        else:
            writer.write(reply(200, b"fine"))

    server.handler = cut
    for _ in range(2):
        assert (await outbound.get(f"{server.url}/a", limits=PDS_JSON)).body == b"fine"
    assert len(server.requests) == 3


async def test_proxies_of_the_environment_are_ignored(
    server: Server, names: Names, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    outbound = Outbound(Settings(allow_loopback=True), clock, names=names)
    server.says(reply(200, b"direct"))
    assert (await outbound.get(server.url, limits=PDS_JSON)).body == b"direct"
    await outbound.close()


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["8.8.8.8", "::ffff:127.0.0.1"], ["169.254.169.254"]],
)
async def test_a_name_with_any_bad_address_is_not_connected_to(
    public: Outbound, names: Names, server: Server, addresses: list[str]
) -> None:
    names.known["evil.net"] = addresses
    server.says(reply(200))
    with pytest.raises(BadInput, match="not a public one"):
        await public.get(f"https://evil.net:{server.port}/", limits=PDS_JSON)
    with pytest.raises(BadInput, match="not a public one"):
        await public.websocket(f"wss://evil.net:{server.port}/", max_size=1000)
    assert server.connections == 0


async def test_the_connection_goes_to_the_judged_address_without_a_second_lookup(
    public: Outbound, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[tuple[str, int]] = []

    async def refuse(self: object, host: str, port: int, *args: object) -> None:
        went.append((host, port))
        names.known["evil.net"] = ["127.0.0.1"]
        raise httpcore.ConnectError

    names.known["evil.net"] = ["2606:4700::1", "8.8.8.8"]
    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", refuse)
    with pytest.raises(NotSent):
        await public.get("https://evil.net/", limits=PDS_JSON)
    assert went == [("8.8.8.8", 443), ("2606:4700::1", 443)]
    assert names.asked == ["evil.net"]


async def test_an_unknown_name_is_unavailable_and_not_bad(public: Outbound) -> None:
    with pytest.raises(NotSent):
        await public.get("https://nobody.net/", limits=PDS_JSON)


async def test_redirects_are_followed_only_where_the_class_allows(outbound: Outbound, server: Server) -> None:
    server.says(reply(302, b"", Location="/next"), reply(200, b"end"))
    assert (await outbound.get(f"{server.url}/a", limits=PDS_JSON)).status == 302
    server.says(
        reply(302, b"", Location="/next"), reply(307, b"", Location=f"{server.url}/third"), reply(200, b"end")
    )
    answer = await outbound.get(f"{server.url}/a", limits=BLOB, headers={"Authorization": "x"})
    assert answer.body == b"end"
    assert [first.split(" ")[1] for first, _ in server.requests] == ["/a", "/a", "/next", "/third"]
    assert server.requests[-1][1]["authorization"] == "x"


async def test_credentials_do_not_follow_a_redirect_to_another_origin(
    outbound: Outbound, server: Server
) -> None:
    server.says(reply(302, b"", Location=f"http://127.0.0.1:{server.port}/b"), reply(200, b"end"))
    await outbound.get(f"{server.url}/a", limits=BLOB, headers={"Authorization": "x", "Accept": "y"})
    assert "authorization" not in server.requests[1][1]
    assert server.requests[1][1]["accept"] == "y"


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/", "http://10.0.0.1/", "file:///etc/passwd", "gopher://a.net/", "http://evil.net/",
     "https://[::1]/", "//2130706433/", "https://us%er@a.net/", "https://evil.net/"],
)  # fmt: skip
async def test_each_hop_of_a_redirect_is_judged(
    outbound: Outbound, server: Server, names: Names, location: str
) -> None:
    names.known["evil.net"] = ["192.168.0.1"]
    server.says(reply(302, b"", Location=location))
    with pytest.raises(BadInput):
        await outbound.get(f"{server.url}/a", limits=BLOB)


async def test_a_public_host_cannot_redirect_to_loopback(outbound: Outbound) -> None:
    target = outbound.policy.target("https://evil.net/", "origin")
    with pytest.raises(BadInput):
        outbound._redirected(target, "https://localhost:2583/", BLOB, {})
    with pytest.raises(BadInput):
        outbound._redirected(target, "http://localhost:2583/", BLOB, {})


async def test_redirects_end(outbound: Outbound, server: Server) -> None:
    server.says(reply(302, b"", Location="/loop"))
    with pytest.raises(BadInput, match="too often"):
        await outbound.get(f"{server.url}/loop", limits=BLOB)
    assert len(server.requests) == 4


async def test_a_body_larger_than_allowed_is_refused_early(outbound: Outbound, server: Server) -> None:
    server.says(b"HTTP/1.1 200 OK\r\ncontent-length: 3000\r\n\r\n")
    with pytest.raises(BadInput, match="larger"):
        await outbound.get(server.url, limits=HANDLE_WELL_KNOWN)


async def test_an_endless_chunked_body_is_cut(outbound: Outbound, server: Server) -> None:
    sent = 0

    async def endless(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()
            sent += 4096

    server.handler = endless
    with pytest.raises(BadInput, match="larger"):
        await outbound.get(server.url, limits=PDS_JSON)
    assert sent < 20_000_000


async def test_a_gzip_bomb_stops_at_the_limit_with_little_memory(outbound: Outbound, server: Server) -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(squeezer.compress(bytes(1_000_000)) for _ in range(400)) + squeezer.flush()
    server.says(reply(200, bomb, Content_Encoding="gzip"))
    tracemalloc.start()
    with pytest.raises(BadInput, match="larger"):
        await outbound.get(server.url, limits=PDS_JSON)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000


async def test_gzip_is_read_in_all_its_shapes(outbound: Outbound, server: Server) -> None:
    text = b"hello " * 50_000
    server.says(
        reply(200, gzip.compress(text), Content_Encoding="gzip"),
        reply(200, gzip.compress(b"a") + gzip.compress(b"b"), Content_Encoding="GZIP"),
        reply(200, b"", Content_Encoding="gzip"),
        reply(200, gzip.compress(text)[:-20], Content_Encoding="gzip"),
    )
    bodies = [(await outbound.get(server.url, limits=PDS_JSON)).body for _ in range(3)]
    assert bodies == [text, b"ab", b""]
    with pytest.raises(Unavailable, match="early"):
        await outbound.get(server.url, limits=PDS_JSON)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "zstd", "deflate", "compress"])
async def test_encodings_that_were_not_asked_for_are_refused(
    outbound: Outbound, server: Server, encoding: str
) -> None:
    server.says(reply(200, gzip.compress(gzip.compress(b"x")), Content_Encoding=encoding))
    with pytest.raises(BadInput):
        await outbound.get(server.url, limits=PDS_JSON)


async def test_broken_compression_is_bad_input(outbound: Outbound, server: Server) -> None:
    server.says(reply(200, b"not gzip at all", Content_Encoding="gzip"))
    with pytest.raises(BadInput):
        await outbound.get(server.url, limits=PDS_JSON)


async def test_a_body_that_drips_is_cut_at_the_deadline(outbound: Outbound, server: Server) -> None:
    async def drip(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    server.handler = drip
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(Unavailable, match="too long"):
        await outbound.get(server.url, limits=replace(PDS_JSON, total_s=0.3))
    with pytest.raises(Unavailable):
        await outbound.get(server.url, limits=replace(PDS_JSON, idle_s=0.005))
    assert loop.time() - began_s < 3


async def test_a_stream_that_hardly_moves_is_cut(
    outbound: Outbound, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def drip(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:
            writer.write(b"x" * 10)
            await writer.drain()
            await asyncio.sleep(0.01)

    server.handler = drip
    monkeypatch.setattr(client_module, "_PROGRESS_EVERY_S", 0.1)
    async with outbound.stream(server.url, limits=PDS_CAR) as streamed:
        with pytest.raises(Unavailable, match="slowly"):
            await streamed.read()


async def test_a_stream_is_read_in_pieces_and_may_be_left_early(outbound: Outbound, server: Server) -> None:
    body = bytes(range(256)) * 4096
    server.says(reply(200, body))
    async with outbound.stream(server.url, limits=PDS_CAR) as streamed:
        pieces = [piece async for piece in streamed]
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 64 * 1024
    async with outbound.stream(server.url, limits=PDS_CAR) as streamed:
        async for _ in streamed:
            break
    assert (await outbound.get(server.url, limits=PDS_JSON)).body == body


async def test_a_cut_body_is_unavailable(outbound: Outbound, server: Server) -> None:
    async def cut(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    server.handler = cut
    with pytest.raises(Unavailable):
        await outbound.get(server.url, limits=PDS_JSON)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"a" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"h%d: a\r\n" % n for n in range(20_000)) + b"\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
    ],
)
async def test_answers_that_are_no_http_are_unavailable(
    outbound: Outbound, server: Server, answer: bytes
) -> None:
    server.says(answer)
    with pytest.raises(Unavailable) as caught:
        await outbound.get(server.url, limits=PDS_JSON)
    assert "localhost" not in caught.value.message


async def test_nobody_listening_means_not_sent(outbound: Outbound) -> None:
    with pytest.raises(NotSent):
        await outbound.post("http://localhost:1/", limits=PDS_JSON, json={})


async def test_a_429_is_unavailable_and_holds_back_the_next(
    outbound: Outbound, server: Server, clock: ManualClock
) -> None:
    server.says(reply(429, b"{}", Retry_After="20"), reply(200, b"now"))
    with pytest.raises(Unavailable) as caught:
        await outbound.get(server.url, limits=PDS_JSON)
    assert (caught.value.name, caught.value.retry_after_s) == ("RateLimitExceeded", 20.0)
    task = asyncio.create_task(outbound.get(server.url, limits=PDS_JSON))
    for _ in range(50):
        await asyncio.sleep(0)
    await clock.advance(19)
    assert len(server.requests) == 1
    await clock.advance(2)
    assert (await task).body == b"now"


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for that name and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "cert.pem").write_bytes(pem)
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    ours = ssl.create_default_context(cadata=pem.decode())
    return theirs, ours


@pytest.mark.parametrize(("certified", "good"), [("localhost", True), ("other.net", False)])
async def test_the_certificate_is_checked_against_the_name(
    tmp_path: Path, certified: str, good: bool, clock: ManualClock
) -> None:
    theirs, ours = certificate(tmp_path, certified)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply(200, b"secure", Connection="close"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=theirs)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
    outbound = Outbound(Settings(allow_loopback=True), clock, tls=ours)
    untrusting = Outbound(Settings(allow_loopback=True), clock)
    try:
        if good:
            assert (await outbound.get(url, limits=PDS_JSON)).body == b"secure"
        else:
            with pytest.raises(NotSent):
                await outbound.get(url, limits=PDS_JSON)
            with pytest.raises(Unavailable):
                await outbound.websocket(url.replace("https", "wss"), max_size=100)
        with pytest.raises(NotSent):
            await untrusting.get(url, limits=PDS_JSON)
    finally:
        await outbound.close()
        await untrusting.close()
        server.close()


async def test_a_websocket_opens_with_its_subprotocol_and_without_compression(outbound: Outbound) -> None:
    async def talk(connection: ServerConnection) -> None:
        assert connection.request is not None
        assert "permessage-deflate" not in connection.request.headers.get("Sec-WebSocket-Extensions", "")
        assert connection.request.headers["User-Agent"].startswith("appliance")
        await connection.send(b"x" * 5000)
        await connection.send(b"y" * 20_000)

    async with serve(talk, "127.0.0.1", 0, subprotocols=[websockets.Subprotocol("xrpc.v1.json")]) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        connection = await outbound.websocket(
            f"ws://localhost:{port}/s", max_size=10_000, subprotocols=["xrpc.v1.json"]
        )
        assert connection.subprotocol == "xrpc.v1.json"
        assert await connection.recv(decode=False) == b"x" * 5000
        with pytest.raises(websockets.ConnectionClosed):
            await connection.recv(decode=False)
        await connection.close()


async def test_a_refused_websocket_tells_status_and_body(outbound: Outbound, server: Server) -> None:
    server.says(
        reply(400, b'{"error":"CursorTooOld","message":"floor 7"}', Retry_After="3", Connection="close")
    )
    with pytest.raises(Declined) as caught:
        await outbound.websocket(f"ws://localhost:{server.port}/s", max_size=1000)
    assert (caught.value.status, caught.value.retry_after_s) == (400, 3.0)
    assert b"CursorTooOld" in caught.value.body


async def test_a_websocket_is_not_redirected(outbound: Outbound, server: Server) -> None:
    server.says(reply(302, b"", Location=f"ws://localhost:{server.port}/b", Connection="close"))
    with pytest.raises(Unavailable):
        await outbound.websocket(f"ws://localhost:{server.port}/s", max_size=1000)
    assert len(server.requests) == 1


async def test_a_websocket_that_does_not_answer_is_given_up(outbound: Outbound, server: Server) -> None:
    async def mute(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server.handler = mute
    with pytest.raises(Unavailable):
        await outbound.websocket(f"ws://localhost:{server.port}/s", max_size=1000, open_s=0.1)
