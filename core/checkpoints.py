"""What the notary signs: checkpoints of the log, with which keys, and what witnesses add. No I/O.

Formats: c2sp.org/tlog-checkpoint, c2sp.org/signed-note (Ed25519), c2sp.org/tlog-cosignature (Ed25519). Reading them
stands in ``core.receipt_check``, which an inspector can take along on its own.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.errors import SettingsError
from core.receipt_check import (
    COSIGNATURE,
    KEY_BYTES,
    Checkpoint,
    Note,
    NoteError,
    Signature,
    VerifierKey,
    checkpoint,
    note,
    signature_line,
    signed_text,
    verifier_key,
)

KEYS = "PIXELPROOF_NOTARY_KEYS"
_TIME_BYTES = 8


@dataclass(frozen=True, slots=True)
class NotaryKey:
    """A key that signs for the log. Of several versions the newest signs; all of them verify."""

    version: int
    verifier: VerifierKey
    private: Ed25519PrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class NotaryKeys:
    """The keys of one log, the newest first.

    Attributes:
        origin: The log's name, in each checkpoint's first line.
    """

    origin: str
    keys: tuple[NotaryKey, ...]

    @classmethod
    def parse(cls, text: str, origin: str) -> NotaryKeys:
        """Read ``name:version:hex``, several separated by commas; without a name, the key bears the log's.

        Raises:
            SettingsError: one of them is not of that form, or a version stands twice; no key is in the message.
        """
        try:
            keys = [_notary_key(each.strip(), origin) for each in text.split(",") if each.strip()]
        except (ValueError, NoteError):
            keys = []
        keys.sort(key=lambda key: -key.version)
        if not keys or len({key.version for key in keys}) != len(keys):
            raise SettingsError(
                f"{KEYS}: give name:version:key, with 64 hex digits for the key, each version once; `pixelproof init`"
                " makes one"
            )
        return cls(origin, tuple(keys))

    @property
    def verifiers(self) -> tuple[VerifierKey, ...]:
        """The public keys, the newest first."""
        return tuple(key.verifier for key in self.keys)

    def signature(self, text: str) -> str:
        """The newest key's signature line for a text."""
        key = self.keys[0]
        return signature_line(key.verifier, key.private.sign(text.encode()))

    def sign(self, size: int, root: bytes) -> bytes:
        """The signed checkpoint of a tree."""
        text = f"{self.origin}\n{size}\n{base64.b64encode(root).decode()}\n"
        return f"{text}\n{self.signature(text)}".encode()

    def sign_receipt(self, receipt: Mapping[str, object]) -> str:
        """The signature line for a receipt, as ``core.receipt_check`` expects it."""
        return self.signature(signed_text(receipt))

    def open(self, raw: bytes) -> Checkpoint:
        """A checkpoint of this log; raises NoteError when it is not, or not signed by any of these keys."""
        signed = note(raw)
        signed.check(self.verifiers)
        head = checkpoint(signed.text)
        if head.origin != self.origin:
            raise NoteError(
                f"the checkpoint is of the log {head.origin!r}, and this one is {self.origin!r}: see origin in [notary]"
            )
        return head


def _notary_key(text: str, origin: str) -> NotaryKey:
    name, version, digits = text.rsplit(":", 2)
    raw = bytes.fromhex(digits)
    if len(raw) != KEY_BYTES:
        raise ValueError
    private = Ed25519PrivateKey.from_private_bytes(raw)
    public = VerifierKey(name or origin, private.public_key().public_bytes_raw())
    return NotaryKey(int(version), verifier_key(str(public)), private)


def origin_of(base_url: str) -> str:
    """The name of a log where the settings give none: the base URL without its scheme (c2sp.org/tlog-tiles)."""
    parts = urlsplit(base_url)
    return f"{parts.netloc}{parts.path}".rstrip("/")


def checked_origin(text: str) -> str:
    """An origin from the settings; raises SettingsError when it can be none."""
    if not text or "+" in text or any(letter.isspace() or letter < " " for letter in text):
        raise SettingsError("origin in [notary]: the log's name, such as log.example.com/consents, without blanks or +")
    return text


@dataclass(frozen=True, slots=True)
class Cosigned:
    """What a witness says: that at this time the log with this checkpoint contradicted nothing that it saw before."""

    witness: VerifierKey
    at: datetime
    signature: Signature = field(repr=False)


def witness_key(text: str) -> VerifierKey:
    """A witness's verifier key from the settings; raises SettingsError."""
    try:
        key = verifier_key(text)
    except NoteError as error:
        raise SettingsError(f"witnesses in [notary]: {error}") from None
    if key.kind != COSIGNATURE:
        raise SettingsError("witnesses in [notary]: the key is a log's, not a witness's (its type is not 4)")
    return key


def cosigned(signed: Note, witnesses: Sequence[VerifierKey]) -> tuple[Cosigned, ...]:
    """The witnesses that cosigned a checkpoint; raises NoteError when a known witness's cosignature is wrong."""
    found = []
    for witness in witnesses:
        for each in signed.by(witness):
            seconds = int.from_bytes(each.value[:_TIME_BYTES])
            message = f"cosignature/v1\ntime {seconds}\n{signed.text}".encode()
            try:
                at = datetime.fromtimestamp(seconds, UTC)
            except (ValueError, OverflowError, OSError):
                raise NoteError(f"the cosignature of {witness.name} names no time") from None
            if not witness.signed(message, each.value[_TIME_BYTES:]):
                raise NoteError(f"the cosignature of {witness.name} is wrong: what it is under was altered")
            found.append(Cosigned(witness, at, each))
    return tuple(found)


def add_checkpoint(old: int, proof: Sequence[bytes], raw: bytes) -> bytes:
    """What a witness is asked with: the body of ``add-checkpoint`` (c2sp.org/tlog-witness).

    Args:
        old: The size of the last checkpoint that the witness saw; 0 for none.
        proof: That the log grew from there to this checkpoint.
        raw: The signed checkpoint.
    """
    lines = "".join(base64.b64encode(step).decode() + "\n" for step in proof)
    return f"old {old}\n{lines}\n".encode() + raw
