"""What stands around every page: cookie, form tokens, origin check, response headers (AUTH §6)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

from quart import Request, Response
from werkzeug.exceptions import Forbidden

GUEST_COOKIE = "guest"
SESSION_COOKIE = "session"
COOKIE_AGE_S = 30 * 86_400


class Guard:
    """Makes and checks the tokens of forms; knows how our cookies are spelled.

    ``origin`` is ours as browsers see it. Over https cookies carry the __Host- prefix and Secure;
    plain http is only spoken to this machine (devnet).
    """

    def __init__(self, key: bytes, origin: str, image_origin: str = "") -> None:
        self._key = key
        self._origins = frozenset({origin.rstrip("/")})
        self._secure = origin.startswith("https://")
        images = f" {image_origin}" if image_origin else ""
        self._policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:{images};"
            f" media-src 'self'{images}; connect-src 'self'; font-src 'self'; form-action 'self';"
            " manifest-src 'self'; frame-ancestors 'none'; base-uri 'none'; object-src 'none';"
            " require-trusted-types-for 'script'"
        )

    def cookie_name(self, name: str) -> str:
        """The name under which the browser keeps that cookie."""
        return f"__Host-{name}" if self._secure else name

    def read_cookie(self, request: Request, name: str) -> str:
        """The cookie's value, or ''."""
        return request.cookies.get(self.cookie_name(name), "")

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

    def form_token(self, holder: str) -> str:
        """The token that forms of this cookie holder carry."""
        return hmac.new(self._key, b"form\0" + holder.encode(), hashlib.sha256).hexdigest()[:40]

    def new_guest(self) -> str:
        """A value for the cookie of somebody who has not signed in."""
        return secrets.token_urlsafe(24)

    def check_form(self, request: Request, holder: str, token: str) -> None:
        """Raise Forbidden unless our own page sent this form on behalf of this cookie holder."""
        origin = request.headers.get("Origin")
        if origin is not None and origin != "null":
            if origin not in self._origins and not self._same_loopback(request, origin):
                raise Forbidden("This form came from another site.")
        elif request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Forbidden("This form came from another site.")
        if not holder or not hmac.compare_digest(self.form_token(holder).encode(), token.encode()):
            raise Forbidden("This form is too old. Go back, load the page again and repeat.")

    def protect(self, response: Response) -> Response:
        """Add the headers that every answer of the website carries."""
        headers = response.headers
        headers.setdefault("Content-Security-Policy", self._policy)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "strict-origin-when-cross-origin"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=(), browsing-topics=()"
        if response.mimetype == "text/html":
            headers.setdefault("Cache-Control", "private, no-cache")
            headers["Vary"] = "Cookie"
        return response

    def _same_loopback(self, request: Request, origin: str) -> bool:
        """On devnet the same server is reached as localhost and as 127.0.0.1."""
        if self._secure:
            return False
        parts = urlsplit(origin)
        return parts.hostname in ("localhost", "127.0.0.1") and parts.netloc == request.host


def safe_return(path: str) -> str:
    """The path if it stays on our pages, else '/'."""
    if not path.startswith("/") or path.startswith(("//", "/\\")) or any(ord(c) <= 32 for c in path):
        return "/"
    return path if len(path) < 2048 else "/"
