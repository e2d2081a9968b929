"""Who may ask the page for what, and what every answer says to the browser."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from quarterturn.worker.console.faults import ConsoleError
from quarterturn.worker.console.reviewers import Reviewers
from quarterturn.worker.settings.console import ConsoleSettings

COOKIE = "quarterturn_reading"
OPEN = ("/", "/static", "/api/session")
"""What a stranger may have: the page itself, to give a token on."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]"}


class Guard:
    """Refuses what the settings do not allow: see `refusal`."""

    def __init__(self, settings: ConsoleSettings, reviewers: Reviewers) -> None:
        self._is_local, self._reviewers = settings.is_local, reviewers
        self._own = {*_LOCAL_HOSTS, settings.host.lower()}

    def refusal(self, path: str, host: str, authorization: str, cookies: str) -> tuple[int, ConsoleError] | None:
        """Status and reason why a request is not answered, or None.

        A page for this machine alone answers only to this machine's names: a foreign page that points a name of its own
        at 127.0.0.1 would read along. Any other page wants a token, or the pass that a token was exchanged for.
        """
        if self._is_local:
            name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host.lower()
            return None if name in self._own else (421, ConsoleError("host", host=host[:100]))
        if path == "/" or path.startswith(OPEN[1:]) or self.name(authorization) or self._has_pass(cookies):
            return None
        return 401, ConsoleError("reading")

    def name(self, authorization: str) -> str | None:
        """Whose token the header `Authorization: Bearer TOKEN` holds."""
        scheme, _, token = authorization.partition(" ")
        return self._reviewers.name_of(token.strip()) if scheme.lower() == "bearer" else None

    def _has_pass(self, cookies: str) -> bool:
        try:
            found = SimpleCookie(cookies).get(COOKIE)
        except CookieError:
            return False
        return found is not None and self._reviewers.may_read(found.value)
