"""The build of a page: what, besides the notice's text, made it look as it did (§6: the conditions of collection).

A build is named by the SHA-256 of its manifest, which lists the digests of everything that the page is made of, in the
format of ``sha256sum``: templates, catalogues, style sheet, notice files, the settings that show, and the finished page
of somebody who has not answered, once in every language. The last of these also tells builds apart that differ in the
code or in a library alone. The manifest is kept in the store, so that any build ever served can be compared with the
files of a release, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

SHOWN_DIGITS = 12
"""How much of the digest a page shows."""
_MARK = "  webhooks/templates/choices.html\n"


@dataclass(frozen=True, slots=True)
class Build:
    """One build of the choices page.

    Attributes:
        digest: SHA-256 of the manifest, in hex.
        manifest: A line ``<SHA-256 in hex>  <name>`` for each part, in the order of names.
    """

    digest: str
    manifest: str

    @property
    def short(self) -> str:
        """The beginning of the digest, as the page shows it."""
        return self.digest[:SHOWN_DIGITS]


def build_of(parts: Mapping[str, bytes]) -> Build:
    """The build that consists of these parts, by their names."""
    manifest = "".join(f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(parts.items()))
    return Build(sha256(manifest.encode()).hexdigest(), manifest)


def is_manifest(text: str) -> bool:
    """Whether a text of the store is the manifest of a build of the choices page, and not a notice."""
    return _MARK in text
