"""The team's own notices, as proof records may refer to them."""

from __future__ import annotations

from core import notices
from core.notices import Disclosure
from core.proofs.terms import KnownNotice, since_of


def known_notices(disclosure: Disclosure, shown: frozenset[str]) -> dict[str, KnownNotice]:
    """Every version that is published, with the digests of its texts as the settings have them now, and ``shown``.

    ``shown``: the SHA-256 (hex) of every text that people were shown: an earlier one may have named other parties.

    Raises:
        NoticeError: a notice is incomplete or was altered.
    """
    return {version: _known(version, disclosure, shown) for version in versions()}


def versions() -> tuple[str, ...]:
    """The versions that are published."""
    return tuple(sorted({file.name.partition(".")[0] for file in notices.TEXTS.glob("*.toml")}))


def _known(version: str, disclosure: Disclosure, shown: frozenset[str]) -> KnownNotice:
    texts = notices.load(version)
    digests = {notices.render(texts, language, disclosure).sha256 for language in texts.texts}
    return KnownNotice(frozenset(digests | shown), since_of(version))
