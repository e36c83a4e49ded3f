"""An authorization server of our own that can lie, over a real socket, and an appliance before it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import msgspec

from appliance.auth import jwt
from appliance.auth.oauth_client import thumbprint
from appliance.auth.oauth_sign_in import Away, Returned
from appliance.clock import ManualClock
from appliance.protocol import keys
from tests.auth.house import ALICE, House
from tests.auth.small_pds import Asked, Handler, Reply, SmallPds

PUBLIC = "https://timeline.our-own.dev"
BROWSER = "the cookie of a browser"
ACCESS_S = 3600
_FORMS = ("oauth/par", "oauth/token", "oauth/revoke")


class OAuthPds(SmallPds):
    """A PDS that is its own authorization server; each document and step can be made to lie."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.resource: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.nonce = "nonce-1"
        self.demands_nonce = True
        self.pushed: dict[str, dict[str, str]] = {}
        self.codes: dict[str, tuple[dict[str, str], str]] = {}
        self.grants: dict[str, tuple[str, str, str]] = {}  # refresh: did, scope, key
        self.tokens_out: dict[str, tuple[str, str, float]] = {}  # access: did, key, end
        self.jtis: set[str] = set()
        self.token_lies: dict[str, Any] = {}
        self.refused_scopes: set[str] = set()
        self.drops_scopes = False
        self.revoked: list[str] = []
        self.overlay: dict[str, Handler] = {}

    def opened(self) -> None:
        """Once the port is known."""
        self.resource = {"resource": self.origin, "authorization_servers": [self.origin]}
        self.metadata = {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/oauth/authorize",
            "token_endpoint": f"{self.origin}/oauth/token",
            "pushed_authorization_request_endpoint": f"{self.origin}/oauth/par",
            "revocation_endpoint": f"{self.origin}/oauth/revoke",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            "scopes_supported": ["atproto", "transition:generic"],
            "dpop_signing_alg_values_supported": ["ES256"],
            "authorization_response_iss_parameter_supported": True,
            "require_pushed_authorization_requests": True,
            "client_id_metadata_document_supported": True,
            "require_request_uri_registration": True,
        }

    def forms(self, name: str) -> list[dict[str, str]]:
        """The forms that one of its endpoints was sent."""
        return [dict(parse_qsl(asked.body.decode())) for asked in self.of(f"/oauth/{name}")]

    async def answer(self, asked: Asked) -> Reply:
        path = asked.nsid.lstrip("/")
        if path in self.overlay:
            return await self.overlay[path](asked)
        if asked.nsid in self.instead:
            return await self.instead[asked.nsid](asked)
        if path == ".well-known/oauth-protected-resource":
            return 200, self.resource
        if path == ".well-known/oauth-authorization-server":
            return 200, self.metadata
        if path in _FORMS:
            return self._form(path, asked)
        if asked.headers.get("authorization", "").startswith("DPoP "):
            return self._bound(asked)
        return await super().answer(asked)

    def _form(self, path: str, asked: Asked) -> Reply:
        key, problem = self._proof(asked, "")
        if problem is not None:
            return problem
        form = dict(parse_qsl(asked.body.decode()))
        assertion = jwt.parse(form["client_assertion"])
        assert assertion.payload["aud"] == self.metadata["issuer"]
        assert assertion.payload["iss"] == assertion.payload["sub"] == form["client_id"]
        assert 0 < assertion.payload["exp"] - assertion.payload["iat"] <= 60
        if assertion.payload["jti"] in self.jtis:
            return 400, {"error": "invalid_client"}
        self.jtis.add(assertion.payload["jti"])
        match path:
            case "oauth/par":
                if self.refused_scopes & set(form["scope"].split()):
                    return 400, {"error": "invalid_scope"}
                uri = f"urn:ietf:params:oauth:request_uri:{secrets.token_hex(8)}"
                self.pushed[uri] = form
                return 201, {"request_uri": uri, "expires_in": 300}, self._told()
            case "oauth/revoke":
                self.revoked.append(form["token"])
                self.grants.pop(form["token"], None)
                return 200, {}, self._told()
            case _ if form["grant_type"] == "refresh_token":
                grant = self.grants.pop(form["refresh_token"], None)
                if grant is None or grant[2] != key:
                    return 400, {"error": "invalid_grant"}, self._told()
                return 200, self.issue(grant[0], grant[1], key), self._told()
        pushed, did = self.codes.pop(form["code"], ({}, ""))
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        if not did or pushed["code_challenge"] != jwt.text_of(digest):
            return 400, {"error": "invalid_grant"}, self._told()
        scope = "atproto" if self.drops_scopes and "repo:" in pushed["scope"] else pushed["scope"]
        return 200, self.issue(did, scope, key), self._told()

    def issue(self, did: str, scope: str, key: str) -> dict[str, Any]:
        access, refresh = f"at-{secrets.token_hex(8)}", f"rt-{secrets.token_hex(8)}"
        self.tokens_out[access] = (did, key, self.clock.monotonic_s() + ACCESS_S)
        self.grants[refresh] = (did, scope, key)
        answer = {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "DPoP",
            "sub": did,
            "scope": scope,
            "expires_in": ACCESS_S,
            **self.token_lies,
        }
        return {name: value for name, value in answer.items() if value is not ...}

    def _bound(self, asked: Asked) -> Reply:
        access = asked.headers["authorization"].removeprefix("DPoP ")
        key, problem = self._proof(asked, access)
        if problem is not None:
            return 401, problem[1], {**self._told(), "www-authenticate": 'DPoP error="use_dpop_nonce"'}
        did, bound_to, end_s = self.tokens_out.get(access, ("", "", 0.0))
        if not did or bound_to != key or self.clock.monotonic_s() >= end_s:
            return 401, {"error": "invalid_token"}, self._told()
        match asked.nsid:
            case "com.atproto.server.getSession":
                return 200, {"did": did}, self._told()
            case nsid if nsid.startswith("com.atproto.repo.") and nsid != "com.atproto.repo.uploadBlob":
                return self.repo(did, asked)
        return 200, {"asked": asked.nsid, "did": did}, self._told()

    def _told(self) -> dict[str, str]:
        return {"dpop-nonce": self.nonce}

    def _proof(self, asked: Asked, access: str) -> tuple[str, Reply | None]:
        """The key that the proof is made with, and what to answer where it does not do."""
        proof = jwt_of(asked.headers["dpop"])
        head, body = proof
        assert head["typ"] == "dpop+jwt"
        assert set(head["jwk"]) == {"kty", "crv", "x", "y"}
        assert body["htm"] == asked.method
        path = asked.nsid if asked.nsid.startswith("/") else f"/xrpc/{asked.nsid}"
        assert body["htu"] == self.origin + path
        assert body["jti"] not in self.jtis
        self.jtis.add(body["jti"])
        if access:
            assert body["ath"] == jwt.text_of(hashlib.sha256(access.encode()).digest())
        else:
            assert "ath" not in body
        numbers = [int.from_bytes(unpacked(head["jwk"][name])) for name in "xy"]
        point = b"\4" + b"".join(number.to_bytes(32) for number in numbers)
        signed, _, signature = asked.headers["dpop"].rpartition(".")
        assert keys.verify(keys.format_did_key("p256", point), signed.encode(), unpacked(signature))
        if self.demands_nonce and body.get("nonce") != self.nonce:
            return "", (400, {"error": "use_dpop_nonce"}, self._told())
        return thumbprint(head["jwk"]), None

    def agreed(self, url: str, did: str = ALICE, **lies: str) -> list[tuple[str, str]]:
        """What comes back with the browser, once the person at that address has agreed."""
        query = parse_qs(urlsplit(url).query)
        assert set(query) == {"client_id", "request_uri"}
        pushed = self.pushed.pop(query["request_uri"][0])
        code = secrets.token_hex(8)
        self.codes[code] = (pushed, did)
        back = {"iss": self.origin, "state": pushed["state"], "code": code, **lies}
        return [(name, value) for name, value in back.items() if value != "-"]


class OAuthHouse(House):
    """The appliance at a public name, and Alice's server that lets her sign in by OAuth."""

    def __init__(self, path: Path, clock: ManualClock | None = None) -> None:
        super().__init__(path, clock)
        self.settings = msgspec.structs.replace(
            self.settings, public_url=PUBLIC, appview_did="did:web:timeline.our-own.dev"
        )
        self.server = self.pds = OAuthPds(self.clock)

    async def open(self, stack: AsyncExitStack) -> None:
        await super().open(stack)
        self.server.opened()

    async def leave(self, typed: str = "alice.test", **more: Any) -> Away:
        return await self.auth.web_sessions.begin_oauth(typed, browser=BROWSER, **more)

    async def come_back(
        self, answers: list[tuple[str, str]], browser: str = BROWSER
    ) -> tuple[str, Returned] | Away:
        return await self.auth.web_sessions.finish_oauth(answers, browser=browser)

    async def sign_in(self, typed: str = "alice.test") -> tuple[str, Returned]:
        away = await self.leave(typed)
        finished = await self.come_back(self.server.agreed(away.url))
        assert not isinstance(finished, Away)
        return finished


def unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def jwt_of(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    head, body, _ = text.split(".")
    return json.loads(unpacked(head)), json.loads(unpacked(body))
