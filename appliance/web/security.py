"""What stands around every page: cookies, form tokens, origin check, response headers (AUTH §6)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from quart import Request, Response
from werkzeug.exceptions import Forbidden

GUEST_COOKIE = "guest"
SESSION_COOKIE = "session"
COOKIE_AGE_S = 180 * 86_400
COOKIE_CHARS_MAX = 128
_MAC_BYTES = 20


class ForeignForm(Forbidden):
    """The request was not sent by a page of ours."""

    description = "This form came from another site."


class StaleForm(Forbidden):
    """A page of ours sent it, but for somebody who is no longer signed in, or long ago."""

    description = "This page was open for too long. Load it again and repeat."


class Guard:
    """Makes and checks the tokens of forms; knows how our cookies are spelled.

    ``origin`` is ours as browsers see it. Over https cookies carry the __Host- prefix and Secure;
    plain http is only spoken to this machine (devnet).
    """

    def __init__(self, key: bytes, origin: str, image_origin: str = "") -> None:
        self._key = key
        self._origin = origin.rstrip("/")
        self._secure = origin.startswith("https://")
        images = f" {image_origin}" if image_origin else ""
        self._policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:{images};"
            f" media-src 'self'{images}; connect-src 'self'; font-src 'self'; form-action 'self';"
            " manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none';"
            " require-trusted-types-for 'script'; trusted-types pages"
        )

    def cookie_name(self, name: str) -> str:
        """The name under which the browser keeps that cookie."""
        return f"__Host-{name}" if self._secure else name

    def read_cookie(self, request: Request, name: str) -> str:
        """The cookie's value, or ''."""
        value = request.cookies.get(self.cookie_name(name), "")
        return value if len(value) <= COOKIE_CHARS_MAX and value.isascii() else ""

    def set_cookie(self, response: Response, name: str, value: str, *, age_s: int = COOKIE_AGE_S) -> None:
        """Keep the value in the browser, out of reach of scripts and other sites."""
        response.set_cookie(
            self.cookie_name(name),
            value,
            max_age=age_s,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="Lax",
        )

    def drop_cookie(self, response: Response, name: str) -> None:
        """Let the browser forget it."""
        response.delete_cookie(
            self.cookie_name(name), path="/", secure=self._secure, httponly=True, samesite="Lax"
        )

    def new_guest(self) -> str:
        """A value for the cookie of somebody who has not signed in."""
        return secrets.token_urlsafe(24)

    def form_token(self, holder: str) -> str:
        """A token that forms of this holder carry.

        Looks different each time, so that its bytes can't be guessed from the size of a compressed page.
        """
        mask = secrets.token_bytes(_MAC_BYTES)
        return base64.urlsafe_b64encode(mask + _xor(mask, self._mac(holder))).decode().rstrip("=")

    def check_origin(self, request: Request) -> None:
        """Raise ForeignForm unless the browser says that our own page sent this (AUTH WB-6)."""
        origin = request.headers.get("Origin")
        if origin is not None:
            ours = self._is_ours(request, origin)
        elif (site := request.headers.get("Sec-Fetch-Site")) is not None:
            ours = site == "same-origin"
        else:
            # Text browsers send neither, but the page that they come from, which nobody else can name.
            parts = urlsplit(request.headers.get("Referer", ""))
            ours = self._is_ours(request, f"{parts.scheme}://{parts.netloc}")
        if not ours:
            raise ForeignForm

    def check_token(self, holder: str, token: str) -> None:
        """Raise StaleForm unless the token was made for this holder."""
        try:
            data = base64.urlsafe_b64decode(token.encode("ascii") + b"==")
        except (UnicodeEncodeError, binascii.Error):
            raise StaleForm from None
        mask, masked = data[:_MAC_BYTES], data[_MAC_BYTES:]
        if not holder or len(masked) != _MAC_BYTES:
            raise StaleForm
        if not hmac.compare_digest(_xor(mask, masked), self._mac(holder)):
            raise StaleForm

    def protect(self, response: Response) -> Response:
        """Add the headers that every answer of the website carries."""
        headers = response.headers
        headers.setdefault("Content-Security-Policy", self._policy)
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Referrer-Policy", "strict-origin-when-cross-origin")
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers["Permissions-Policy"] = (
            "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()"
        )
        if response.mimetype == "text/html":
            # Not no-store: going back must find the page as it was left.
            headers.setdefault("Cache-Control", "private, no-cache")
            response.vary.add("Cookie")
        return response

    def _mac(self, holder: str) -> bytes:
        return hmac.new(self._key, b"form\0" + holder.encode(), hashlib.sha256).digest()[:_MAC_BYTES]

    def _is_ours(self, request: Request, origin: str) -> bool:
        if origin == self._origin:
            return True
        if self._secure:
            return False
        # Without https we are on this machine, reached as localhost and as 127.0.0.1.
        parts = urlsplit(origin)
        local = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
        return local and parts.netloc == request.host


def safe_return(path: str) -> str:
    """The path if it stays on our pages, else '/'."""
    if not path.startswith("/") or path.startswith(("//", "/\\")) or len(path) > 2048:
        return "/"
    return path if path.isascii() and all(32 < ord(c) < 127 for c in path) else "/"


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
