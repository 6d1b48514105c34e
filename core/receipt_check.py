"""Checks a receipt offline: nothing but this file, Python and the ``cryptography`` package is needed.

``python receipt_check.py RECEIPT.json --key VKEY`` does what ``pixelproof receipt verify`` does, so that an inspector
can read the whole of what is trusted, and take it along. Signed notes, checkpoints and verifier keys are those of
C2SP (c2sp.org/signed-note, c2sp.org/tlog-checkpoint); proofs are those of RFC 9162 §2.1.3, hashes those of RFC 6962.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519, COSIGNATURE = 0x01, 0x04
"""The types of signatures: of a log, and of a witness with the time."""
KEY_BYTES = 32
ID_BYTES = 4
MOST_SIGNATURES = 100
LARGEST = 10_000_000
"""Bytes of a document."""
GREATEST_SIZE = 2**63 - 1
GREATEST_NUMBER = 2**53
"""Beyond it, JSON's numbers are not exact (RFC 8785 §3.2.2.3)."""
KIND, KIND_OF_MANY = "pixelproof-receipt", "pixelproof-receipts"
SIGNED = "pixelproof receipt v1"
"""The first line of what a receipt's signature is over; no checkpoint can begin with it."""

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID = re.compile(r"[0-9a-fA-F]{8}")
_HASH = re.compile(r"[0-9a-f]{64}")
_FROM_ENTRY = {"notice_version": "notice"}  # where a field of ``says`` has another name in the entry


class NoteError(ValueError):
    """Not a signed note, checkpoint or verifier key, or not signed by a key that is known. Says so in words."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key with a name: ``name+id+base64(type ‖ key)`` (c2sp.org/signed-note, verifier keys)."""

    name: str
    public: bytes
    kind: int = ED25519

    @property
    def id(self) -> bytes:
        """Four bytes that, with the name, tell which key signed."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether this key signed the message."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def verifier_key(text: str) -> VerifierKey:
    """Read a verifier key; raises NoteError."""
    name, _, rest = text.strip().partition("+")
    number, _, encoded = rest.partition("+")
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not _is_key_name(name) or not _KEY_ID.fullmatch(number) or len(raw) != 1 + KEY_BYTES:
        raise NoteError("a verifier key looks like log.example.com+0a1b2c3d+AbCd…, in one piece")
    if raw[0] not in {ED25519, COSIGNATURE}:
        raise NoteError("the verifier key is not for Ed25519")
    key = VerifierKey(name, raw[1:], raw[0])
    if key.id.hex() != number.lower():
        raise NoteError("the verifier key does not fit its own number: it was altered or not copied whole")
    return key


def _is_key_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(letter.isspace() or letter < " " for letter in name)


@dataclass(frozen=True)
class Signature:
    """One signature line of a note: whose it says it is, and the signature's bytes."""

    name: str
    id: bytes
    value: bytes


@dataclass(frozen=True)
class Note:
    """A signed note, taken apart. ``text`` ends in a newline; nothing in it counts before a signature was checked."""

    text: str
    signatures: tuple[Signature, ...]

    def by(self, key: VerifierKey) -> tuple[Signature, ...]:
        """The signatures that say to be this key's."""
        return tuple(each for each in self.signatures if (each.name, each.id) == (key.name, key.id))

    def check(self, keys: Collection[VerifierKey]) -> tuple[VerifierKey, ...]:
        """The keys that signed it; raises NoteError when none did, or when a signature by a known key is wrong."""
        signers = []
        for key in keys:
            found = self.by(key)
            if not all(key.signed(self.text.encode(), each.value) for each in found):
                raise NoteError(f"the signature of {key.name} is wrong: what it is under was altered")
            if found:
                signers.append(key)
        if not signers:
            raise NoteError("not signed by any of the given keys")
        return tuple(signers)


def note(raw: bytes) -> Note:
    """Take a signed note apart; raises NoteError."""
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("a signed note is not UTF-8") from None
    if len(raw) > LARGEST or any(letter < " " and letter != "\n" for letter in whole):
        raise NoteError("not a signed note: too long, or with control characters")
    text, gap, lines = whole.rpartition("\n\n")
    if not gap or not text or not lines.endswith("\n"):
        raise NoteError("not a signed note: text, a blank line and signatures are expected")
    signatures = lines[:-1].split("\n")
    if len(signatures) > MOST_SIGNATURES:
        raise NoteError("a signed note has too many signatures")
    return Note(text + "\n", tuple(map(_signature, signatures)))


def signature_line(key: VerifierKey, value: bytes) -> str:
    """The line that holds a signature."""
    return f"— {key.name} {base64.b64encode(key.id + value).decode()}\n"


def _signature(line: str) -> Signature:
    mark, name, *rest = [*line.split(" "), "", ""]
    try:
        raw = base64.b64decode(rest[0], validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    # Encoded again: bits that no byte needs could otherwise be altered unnoticed.
    sound = mark == "—" and _is_key_name(name) and rest[1:] == ["", ""] and base64.b64encode(raw).decode() == rest[0]
    if not sound or len(raw) <= ID_BYTES:
        raise NoteError("a signed note has a line that is not a signature")
    return Signature(name, raw[:ID_BYTES], raw[ID_BYTES:])


@dataclass(frozen=True)
class Checkpoint:
    """A log's size and root hash at one moment. ``origin``: which log."""

    origin: str
    size: int
    root: bytes


def checkpoint(text: str) -> Checkpoint:
    """Read the text of a note that is a checkpoint; raises NoteError."""
    origin, size, root, *others = [*text.split("\n"), "", "", ""][: max(3, text.count("\n"))]
    try:
        digest = base64.b64decode(root, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    exact = base64.b64encode(digest).decode() == root and len(digest) == sha256().digest_size
    if not (origin and _SIZE.fullmatch(size) and exact and all(others)) or int(size) > GREATEST_SIZE:
        raise NoteError("a signed note is not a checkpoint: origin, size and root hash are expected")
    return Checkpoint(origin, int(size), digest)


def root_of(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root hash that an inclusion proof leads to (RFC 9162 §2.1.3.2); None when the proof is of another form.

    Args:
        leaf: The hash of the leaf.
        index: Its number, from 0.
        size: How many leaves the tree has.
        path: The proof.
    """
    if not 0 <= index < size:
        return None
    node, last, root = index, size - 1, leaf
    for step in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = sha256(b"\x01" + step + root).digest()
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = sha256(b"\x01" + root + step).digest()
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def canonical(document: object) -> bytes:
    """Canonical JSON (RFC 8785) of what has neither fractions nor names outside ASCII; raises ValueError."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def signed_text(receipt: Mapping[str, Any]) -> str:
    """What the signature of a receipt is over: the digest of everything else in it."""
    digest = sha256(canonical({name: value for name, value in receipt.items() if name != "signature"}))
    return f"{SIGNED}\n{digest.hexdigest()}\n"


@dataclass
class Verdict:
    """What a receipt proves, what it does not, and what is wrong with it; each in words.

    ``covered``: whether it holds a proof that the entry is in the log. ``checkpoint``: under which the entry was found.
    ``cosigned``: the same with the signatures of witnesses, if there are some; like ``timestamp``, not checked here.
    """

    proves: list[str] = field(default_factory=list)
    leaves_open: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    covered: bool = False
    checkpoint: str = ""
    timestamp: bytes = b""
    cosigned: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, and the entry is proved to be in the log."""
        return self.covered and not self.problems


def check(raw: bytes, keys: Collection[VerifierKey]) -> list[Verdict]:
    """Check a file of one receipt or several; raises NoteError when it is no such file."""
    document = _parsed(raw)
    if document.get("kind") == KIND_OF_MANY and document.keys() == {"kind", "v", "receipts"}:
        receipts = document["receipts"]
    else:
        receipts = [document]
    if not isinstance(receipts, list) or not receipts or not all(map(_is_receipt, receipts)):
        raise NoteError("not a receipt that pixelproof makes, or one of a later version")
    return [_checked(receipt, keys) for receipt in receipts]


def _is_receipt(receipt: object) -> bool:
    return isinstance(receipt, dict) and receipt.get("kind") == KIND and receipt.get("v") == 1


def _parsed(raw: bytes) -> dict[str, Any]:
    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in members}) != len(members) or not all(name.isascii() for name, _ in members):
            raise ValueError
        return dict(members)

    def whole(digits: str) -> int:
        if abs(number := int(digits)) > GREATEST_NUMBER:
            raise ValueError
        return number

    def refuse(_text: str) -> object:
        raise ValueError

    try:
        text = raw[: LARGEST + 1].decode("utf-8")
        document = json.loads(text, object_pairs_hook=once, parse_int=whole, parse_float=refuse, parse_constant=refuse)
        canonical(document)
    except (ValueError, RecursionError):
        raise NoteError("not a receipt: the file is not JSON, or not of the form that receipts have") from None
    if not isinstance(document, dict):
        raise NoteError("not a receipt: the file is JSON of another form")
    return document


def _checked(receipt: Mapping[str, Any], keys: Collection[VerifierKey]) -> Verdict:
    verdict = Verdict()
    for step in (_check_signature, _check_entry, _check_notice, _check_proof):
        try:
            step(receipt, keys, verdict)
        except (NoteError, ValueError, KeyError, TypeError, AttributeError) as error:
            verdict.problems.append(str(error) if isinstance(error, NoteError) else "a field is missing or malformed")
    verdict.leaves_open += LEAVES_OPEN
    return verdict


UNREAD_STAMP = "its timestamp, which is not checked here: see `openssl ts -verify`"
UNREAD_COSIGNATURES = "its witnesses' signatures, which are not checked here: see `pixelproof receipt verify --witness`"
ONE_LOG = "that everybody is shown the same log: that takes checkpoints which others keep or cosign"
LEAVES_OPEN = (
    "whether it was really this person: the address stands for whoever reads its mail",
    "whether the sender acted accordingly, and whether it put everything that it was told into its ledger",
    "whether a later entry says otherwise: ask the sender for the newest receipt",
    ONE_LOG,
)


def _check_signature(receipt: Mapping[str, Any], keys: Collection[VerifierKey], verdict: Verdict) -> None:
    signature = receipt["signature"]
    if not signature:
        raise NoteError("the receipt is not signed")
    signers = note((signed_text(receipt) + "\n" + signature).encode()).check(keys)
    names = ", ".join(f"{key.name}+{key.id.hex()}" for key in signers)
    verdict.proves.append(f"this receipt, every field of it, was made by who holds the key {names}")


def _check_entry(receipt: Mapping[str, Any], _keys: Collection[VerifierKey], verdict: Verdict) -> None:
    raw = receipt["entry"].encode()
    entry = _parsed(raw)
    if canonical(entry) != raw:
        raise NoteError("the entry is not canonical JSON (RFC 8785)")
    if sha256(b"\0" + raw).hexdigest() != receipt["entry_hash"]:
        raise NoteError("the entry does not have the hash that stands beside it")
    if (entry["recipient"], entry["seq"]) != (receipt["recipient"], receipt["seq"]):
        raise NoteError("the entry is about somebody else, or has another number")
    for name, value in receipt["says"].items():
        expected = receipt["entry_hash"] if name == "entry_hash" else entry.get(_FROM_ENTRY.get(name, name))
        if value != expected:
            raise NoteError(f"what the receipt says is not what the entry says: {name}")
    what = f"{entry['action']} for {', '.join(entry['purposes'])}, received {entry['received_at']}"
    verdict.proves.append(f"the entry says: {what}; source: {entry['source']}")


def _check_notice(receipt: Mapping[str, Any], _keys: Collection[VerifierKey], verdict: Verdict) -> None:
    notice, entry = receipt["notice"], _parsed(receipt["entry"].encode())
    if notice is None:
        if entry.get("notice") is not None:
            raise NoteError("the entry names a notice, and the receipt holds none")
        verdict.leaves_open.append("what the person was shown: the entry names no notice")
        return
    told = notice["version"], notice["language"], notice["sha256"]
    if told != (entry.get("notice"), entry.get("notice_language"), entry.get("notice_sha256")):
        raise NoteError("the notice is not the one that the entry names")
    if notice["text"] is None:
        verdict.leaves_open.append("the exact words that the person was shown: the receipt does not hold them")
    elif sha256(notice["text"].encode()).hexdigest() != notice["sha256"]:
        raise NoteError("the notice's text does not have the hash that the entry names")
    else:
        verdict.proves.append(f"the text of notice {notice['version']} in it is the very text that the entry names")


def _check_proof(receipt: Mapping[str, Any], keys: Collection[VerifierKey], verdict: Verdict) -> None:
    proof = receipt["proof"]
    if proof is None:
        verdict.leaves_open.append("that the entry is in the log: no checkpoint covers it yet; fetch the receipt again")
        return
    signed = note(proof["checkpoint"].encode())
    signed.check(keys)
    head = checkpoint(signed.text)
    if not all(_HASH.fullmatch(step) for step in [receipt["entry_hash"], *proof["path"]]):
        raise NoteError("the proof holds something that is no hash")
    leaf = bytes.fromhex(receipt["entry_hash"])
    if root_of(leaf, proof["index"], head.size, [bytes.fromhex(step) for step in proof["path"]]) != head.root:
        raise NoteError(
            "the proof does not lead from the entry to the checkpoint: the entry is not shown to be in the log"
        )
    verdict.covered, verdict.checkpoint = True, proof["checkpoint"]
    verdict.proves.append(
        f"the entry is number {proof['index'] + 1} of the log {head.origin}, whose size was {head.size}"
    )
    if proof["timestamp"]:
        verdict.timestamp = base64.b64decode(proof["timestamp"], validate=True)
    else:
        verdict.leaves_open.append("when the checkpoint was made, but for the sender's word: it bears no timestamp")
    if proof.get("cosignatures"):
        verdict.cosigned = signed.text + "\n" + "".join(proof["cosignatures"])
        note(verdict.cosigned.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Check a file; 0 when all of it is proved, 1 when not, 2 for a file or key that cannot be read."""
    parser = argparse.ArgumentParser(description="Check a pixelproof receipt offline.")
    parser.add_argument("file")
    parser.add_argument("--key", action="append", required=True, help="The sender's verifier key; several times.")
    given = parser.parse_args(arguments)
    try:
        with open(given.file, "rb") as file:  # noqa: PTH123 - as plain as can be
            verdicts = check(file.read(LARGEST + 1), [verifier_key(key) for key in given.key])
    except (NoteError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for verdict in verdicts:
        unread = [UNREAD_STAMP] * bool(verdict.timestamp) + [UNREAD_COSIGNATURES] * bool(verdict.cosigned)
        said = (("✗", verdict.problems), ("✓", verdict.proves), ("?", [*verdict.leaves_open, *unread]))
        sys.stdout.writelines(f"{mark} {each}\n" for mark, all_ in said for each in all_)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
