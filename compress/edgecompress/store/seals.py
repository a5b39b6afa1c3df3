"""Seals, by which documents and files are believed: made with a key that only a store's owner has, if there is one.

Without a key a seal is a hash: it shows damage, but anybody can make one. With a key it shows who made it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecompress.store.files import KEYED, canonical, is_whole, rest_of, sealed

#: Where the key is: in the environment of whoever owns the store.
KEY = "EDGECOMPRESS_STORE_KEY"


def without_key(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment for processes that open files of strangers: what they do not have they cannot give on."""
    return {name: value for name, value in environment.items() if name != KEY}


@dataclass(frozen=True)
class Seal:
    """Makes seals and looks at them.

    Attributes:
        key: The owner's; None: seals are plain hashes.
    """

    key: bytes | None = field(default=None, repr=False)

    def digest(self, place: str, content: bytes) -> str:
        """Returns the seal of a file's content, in hex.

        Args:
            place: What the content is of: one that was made for another place is none for this one.
            content: All of it.
        """
        head = f"{place}\n".encode()
        if self.key is None:
            return hashlib.sha256(head + content).hexdigest()
        return hmac.digest(self.key, head + content, "sha256").hex()

    def sealed(self, place: str, document: dict[str, Any]) -> dict[str, Any]:
        """Returns a document with its seal: the hash of all else in it, and with a key one that the key makes."""
        found = sealed(document)
        return found if self.key is None else {**found, KEYED: self.digest(place, canonical(rest_of(found)))}

    def doubt(self, place: str, document: dict[str, Any]) -> str:
        """Returns why a document is not to be believed, "" where it is as it was sealed.

        Without a key, one that was sealed with a key is believed by its hash.
        """
        if not is_whole(document):
            return "is damaged (its hash differs)"
        if self.key is None:
            return ""
        theirs = document.get(KEYED)
        mine = self.digest(place, canonical(rest_of(document)))
        if isinstance(theirs, str) and theirs.isascii() and hmac.compare_digest(theirs, mine):
            return ""
        return f"is not sealed with the key in {KEY}"
