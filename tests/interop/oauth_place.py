"""The official authorization server and a whole appliance that it can reach by a public name."""

from __future__ import annotations

import asyncio
import datetime as dt
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypercorn.asyncio import serve
from hypercorn.config import Config

from appliance import app
from appliance.clock import SystemClock
from appliance.config import Settings
from appliance.devnet.network import Network
from appliance.devnet.options import Options
from appliance.supervisor import Supervisor
from tests.interop import npm
from tests.journeys.harness import free_port

# A server takes clients of ordinary public names only. This one exists nowhere.
NAME = "app.appliance-interop.dev"
PUBLIC = f"https://{NAME}"
PASSWORD = "alice-pass"
HANDLE = "alice.test"


class Place(NamedTuple):
    """Where everything is."""

    pds: str
    did: str
    port: int
    settings: Settings

    @property
    def names(self) -> str:
        """The rule by which a browser finds us."""
        return f"MAP {NAME}:443 127.0.0.1:{self.port}"


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    """Both of them running; Alice has an account there."""
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Network(Options(accounts=0, members=0, posts=0, rate=0, pds=1)))
        listener = socket.create_server(("127.0.0.1", 0))
        plain, port = listener.getsockname()[1], free_port()
        (folder / "pds").mkdir()
        pds = f"http://localhost:{port}"
        options = {
            "port": port,
            "data": str(folder / "pds"),
            "plc": net.info["plc"],
            "rotation": secrets.token_hex(32),
            "name": NAME,
            "at": plain,
        }
        server = await npm.Script.start(npm.OFFICIAL / "oauth.mjs", options, npm.OFFICIAL)
        stack.push_async_callback(server.close)
        assert await server.told(240) == {"step": "ready"}
        body = {"handle": HANDLE, "password": PASSWORD, "email": "alice@example.com"}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.post(f"{pds}/xrpc/com.atproto.server.createAccount", json=body)
        assert answer.status_code == 200, answer.text
        secure = socket.create_server(("127.0.0.1", 0))
        settings = Settings(
            data_dir=str(folder / "appliance"),
            public_url=PUBLIC,
            appview_did=f"did:web:{NAME}",
            allow_loopback=True,
            relay_url=pds.replace("http:", "ws:"),
            plc_url=net.info["plc"],
            handle_resolvers=(pds,),
            admission="open",
            rate_limits="off",
            outbound_rate_per_host=500,
            outbound_per_host=32,
        )
        secure_port = secure.getsockname()[1]
        await _serve(stack, settings, listener, secure, folder)
        yield Place(pds, answer.json()["did"], secure_port, settings)


async def _serve(
    stack: AsyncExitStack, settings: Settings, plain: socket.socket, secure: socket.socket, folder: Path
) -> None:
    """The whole appliance, its long tasks too, over http and https."""
    clock = SystemClock()
    supervisor = Supervisor(clock)
    Path(settings.data_dir).mkdir()
    application = await app.build(settings, clock, supervisor, stack)
    config = Config()
    config.insecure_bind = [f"fd://{plain.detach()}"]
    config.bind = [f"fd://{secure.detach()}"]
    config.certfile, config.keyfile = _certificate(folder)
    config.errorlog = None
    config.graceful_timeout = 0.5
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(application, config, shutdown_trigger=stop.wait, mode="asgi"))
    running = asyncio.create_task(supervisor.run())

    async def end() -> None:
        stop.set()
        supervisor.stop()
        await asyncio.gather(serving, running)

    stack.push_async_callback(end)


def _certificate(folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def cookies_of(jar: Any) -> dict[str, str]:
    """The cookies of a browser by name."""
    return {cookie["name"]: cookie["value"] for cookie in jar}
