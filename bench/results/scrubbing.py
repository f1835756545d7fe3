"""Takes out of a text what identifies a person, a place or a device, and leaves a mark.

Each thing gets a number, so that texts which differed still differ: `<path1>`, `<user1>`.
"""

import re
from collections.abc import Iterable
from typing import Final

_PATH_START: Final = r"(?:~[\w.-]*[\\/]|\.{1,2}[\\/]|/(?=[\w.~])|\\\\(?=\w)|[A-Za-z]:[\\/])"
PATTERNS: Final = (
    ("url", re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"`<>]+")),
    ("address", re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+(?::[^\s'\"`<>]+)?")),
    ("gpu", re.compile(r"\b(?:GPU|MIG)-[0-9A-Fa-f]{8}[\w/-]*")),
    ("slot", re.compile(r"\b[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7]\b")),
    # In quotation marks a path may hold spaces.
    ("path", re.compile(rf"(?<=['\"`]){_PATH_START}[^'\"`]*(?=['\"`])")),
    ("path", re.compile(rf"(?<![\w.<>/\\-]){_PATH_START}[^\s'\"`,;:()\[\]{{}}<>|]*")),
)
PUBLIC: Final = ("https://download.pytorch.org/",)
"""Addresses that bench itself writes into its reasons."""

_HOME: Final = re.compile(r"(?:/home/|/Users/|[\\/]Users[\\/]+)([^/\\\s'\"<>:;,]+)")
_SHORTEST_USER: Final = 3


def users_in(text: str) -> set[str]:
    """Return the names of those whose home folders `text` mentions."""
    return {name for name in _HOME.findall(text) if len(name) >= _SHORTEST_USER}


class Scrubber:
    """Replaces what it finds, the same thing by the same mark."""

    def __init__(self, hosts: Iterable[str], users: Iterable[str]) -> None:
        self._marks: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        # The longer first: a host's full name holds its short one.
        self._words = [
            (kind, re.compile(rf"(?<![A-Za-z0-9<]){re.escape(word)}(?![A-Za-z0-9])", re.IGNORECASE))
            for kind, words in (("host", hosts), ("user", users))
            for word in sorted(set(words), key=lambda word: (-len(word), word))
        ]

    def name(self, text: str) -> str:
        """Scrub a name or a value: paths, addresses, devices."""
        for kind, pattern in PATTERNS:
            text = pattern.sub(lambda found, kind=kind: self._mark(kind, found[0]), text)  # type: ignore[misc]
        return text

    def prose(self, text: str) -> str:
        """Scrub a text that was written for people: names of hosts and users, too."""
        text = self.name(text)
        for kind, pattern in self._words:
            text = pattern.sub(lambda found, kind=kind: self._mark(kind, found[0].lower()), text)  # type: ignore[misc]
        return text

    def _mark(self, kind: str, what: str) -> str:
        if what.startswith(PUBLIC):
            return what
        if (kind, what) not in self._marks:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._marks[kind, what] = f"<{kind}{self._counts[kind]}>"
        return self._marks[kind, what]
