"""What witnesses put under checkpoints: kept together, the newest on top, and whole again after any crash."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from core.checkpoints import Cosigned, cosigned
from core.cosignatures import Cosignatures, line
from core.errors import StoreError
from core.files import Content, FolderFiles
from core.receipt_check import COSIGNATURE, VerifierKey, note, signature_line
from tests.log_in_folder import files, keys

ROOT = bytes(range(32))


@dataclass
class Witness:
    """Somebody who cosigns."""

    name: str
    private: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)

    @property
    def key(self) -> VerifierKey:
        """The public key."""
        return VerifierKey(self.name, self.private.public_key().public_bytes_raw(), COSIGNATURE)

    def sign(self, raw: bytes, seconds: int) -> tuple[Cosigned, ...]:
        """A cosignature as it is found under a checkpoint."""
        signature = self.private.sign(f"cosignature/v1\ntime {seconds}\n{note(raw).text}".encode())
        whole = raw + signature_line(self.key, seconds.to_bytes(8) + signature).encode()
        return cosigned(note(whole), [self.key])


ONE, TWO = Witness("one.example.com"), Witness("two.example.com")


def checkpoint(size: int) -> bytes:
    """One of this log."""
    return keys().sign(size, ROOT)


@pytest.fixture
def kept(tmp_path: Path) -> Cosignatures:
    """An empty store."""
    return Cosignatures(FolderFiles(tmp_path), keys())


def found(kept: Cosignatures, size: int) -> list[tuple[str, float]]:
    """Who signed the checkpoint of a size, and when, by their keys."""
    signed = dict(kept.all())[size]
    return [(each.witness.name, each.at.timestamp()) for each in cosigned(signed, [ONE.key, TWO.key])]


def test_several_witnesses_stand_together(kept: Cosignatures) -> None:
    """Each once: what comes later from the same takes the place of the earlier."""
    raw = checkpoint(5)
    kept.keep(5, raw, ONE.sign(raw, 100))
    kept.keep(5, raw, TWO.sign(raw, 200))
    kept.keep(5, raw, ONE.sign(raw, 300))
    assert found(kept, 5) == [("one.example.com", 300), ("two.example.com", 200)]
    newest = kept.newest()
    assert newest is not None
    assert (newest[0].size, [each.name for each in newest[1]]) == (5, ["one.example.com", "two.example.com"])


def test_the_newest_is_the_largest(kept: Cosignatures) -> None:
    """A smaller one that is cosigned afterwards is kept, and does not take its place."""
    for size in (5, 9, 7):
        kept.keep(size, checkpoint(size), ONE.sign(checkpoint(size), 100))
    newest = kept.newest()
    assert newest is not None
    assert newest[0].size == 9
    assert sorted(size for size, _ in kept.all()) == [5, 7, 9]


def test_it_is_a_signed_note(kept: Cosignatures, tmp_path: Path) -> None:
    """The checkpoint as it was signed, and a line for each witness: whoever serves the file serves the format."""
    raw = checkpoint(5)
    (one,) = ONE.sign(raw, 100)
    kept.keep(5, raw, [one])
    expected = raw + line(one.signature).encode()
    assert files(tmp_path) == {"checkpoints/5.cosigned": expected, "cosigned": expected}


def test_nothing_is_kept_yet(kept: Cosignatures) -> None:
    """No file is no fault."""
    assert kept.newest() is None
    assert list(kept.all()) == []


@pytest.mark.parametrize("content", [b"", b"nothing", keys(f":1:{'66' * 32}").sign(5, ROOT)], ids=["", "text", "key"])
def test_what_is_not_of_this_log_is_told(kept: Cosignatures, tmp_path: Path, content: bytes) -> None:
    """By the file's name."""
    (tmp_path / "cosigned").write_bytes(content)
    with pytest.raises(StoreError, match=r"^cosigned: "):
        kept.newest()


class Broken(FolderFiles):
    """Files of which one cannot be written, or was although an error came back."""

    def __init__(self, folder: Path, name: str, *, done: bool) -> None:
        super().__init__(folder)
        object.__setattr__(self, "broken", (name, done))

    def put(self, name: str, content: Content, *, immutable: bool) -> None:
        """Fail in time."""
        broken, done = self.broken  # type: ignore[attr-defined]
        if name != broken or done:
            super().put(name, content, immutable=immutable)
        if name == broken:
            raise StoreError("the disk is full")


@pytest.mark.parametrize("done", [False, True], ids=["failed", "failed-but-done"])
@pytest.mark.parametrize("name", ["checkpoints/5.cosigned", "cosigned"])
def test_cut_off_and_run_again_equals_run_once(tmp_path: Path, name: str, *, done: bool) -> None:
    """Whatever of the two was written."""
    raw = checkpoint(5)
    for part in ("whole", "parts"):
        Cosignatures(FolderFiles(tmp_path / part), keys()).keep(5, raw, TWO.sign(raw, 100))
    signed = ONE.sign(raw, 200)
    with pytest.raises(StoreError, match="full"):
        Cosignatures(Broken(tmp_path / "parts", name, done=done), keys()).keep(5, raw, signed)
    for part in ("whole", "parts"):
        Cosignatures(FolderFiles(tmp_path / part), keys()).keep(5, raw, signed)
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert b"one.example.com" in files(tmp_path / "whole")["cosigned"]
