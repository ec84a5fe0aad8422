"""Models by name: the catalogue of published models, the folder of installed ones, and how to install them."""

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
        return False  # messages would show it
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in _THIS_MACHINE))


def origin_of(address: str) -> str:
    """Scheme and host of an address.

    >>> origin_of("http://example.org/a?token=1")
    'http://example.org'
    """
    return "/".join(address.split("/", 3)[:3])
