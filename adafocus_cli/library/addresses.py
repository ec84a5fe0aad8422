"""Which addresses files may come from: HTTPS, or plain HTTP that stays on this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")


def is_safe(address: str) -> bool:
    """
    >>> is_safe("https://example.org/a"), is_safe("http://example.org/a"), is_safe("http://localhost:80/a")
    (True, False, True)
    """
    if not (address.isascii() and address.isprintable()) or " " in address:
        return False
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    if parts.username is not None:
        return False  # it would be shown in messages
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _THIS_MACHINE))


def place_of(address: str) -> str:
    """The part that says with whom one speaks.

    >>> place_of("http://example.org/a?token=1")
    'http://example.org'
    """
    return "/".join(address.split("/", 3)[:3])
