"""Who may talk to the server: the token, the host that was asked for, and the origin of a page."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

COOKIE = "visolo_token"


@dataclass(frozen=True)
class Guard:
    """Decides whether a request is answered."""

    token: str = ""
    """What visitors must know; empty lets in everybody who reaches the server."""
    hosts: frozenset[str] = frozenset()
    """Names under which the server may be asked for, beside numeric addresses and localhost."""

    def refuse_host(self, headers: Mapping[str, str]) -> str:
        """Why a request is refused for the host or the origin that it names; empty if it is not.

        A page of another site whose name was pointed at this machine sends that name as the host; a
        page of another site that talks to the right name sends its own as the origin.
        """
        host = headers.get("host", "")
        if not self._is_own(_name(host)):
            return f"this server is not '{host[:80]}': ask by address, or name it in --host-name"
        origin = headers.get("origin")
        if origin is not None and _address(origin) != host.lower():
            return f"pages of '{origin[:80]}' may not use this server"
        return ""

    def knows_token(self, headers: Mapping[str, str], query: str) -> bool:
        """Whether a request has the token: as a bearer, in its address or in the cookie."""
        if not self.token:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = [bearer.strip()] if scheme.lower() == "bearer" else []
        offered += parse_qs(query).get("token", [])
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None:
            offered.append(cookie.value)
        return any(hmac.compare_digest(each.encode(), self.token.encode()) for each in offered)

    def _is_own(self, name: str) -> bool:
        if name == "localhost" or name in self.hosts:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(18)


def _name(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _address(origin: str) -> str:
    """Host and port of an origin."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
