"""The offline check of receipts: whatever is altered in one is found, and it needs nothing but itself."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

import core.receipt_check
from core.model import Action, NoticeRef
from core.notary import Notary
from core.receipt_check import NoteError, canonical, check, main, signed_text
from core.receipts import Receipts
from tests.log_in_folder import keys
from tests.unit.conftest import ADA
from webhooks.assembly import Services

TEXT = "May Example know when you open its e-mails?"
SHOWN = NoticeRef("2026-11", "en", sha256(TEXT.encode()).hexdigest(), "b1")
VERIFIERS = keys().verifiers
KEY = str(VERIFIERS[0])
OTHER = str(keys(f":1:{'66' * 32}").verifiers[0])


@pytest.fixture
def raw(services: Services, notary: Notary, record: Callable[..., int], grow: Callable[[int], None]) -> bytes:
    """A receipt with everything in it, as canonical JSON."""
    services.records.put_notice(SHOWN.sha256 or "", TEXT)
    grow(3)
    record(Action.GIVEN, notice=SHOWN, source="choices-page", evidence="form 7")
    grow(2)
    notary.cover()
    made = Receipts(services.store, services.records, services.receipts.conditions, services.now, notary).of(ADA, 1)
    return rfc8785.dumps(json.loads(msgspec.json.encode(made)))


def signed_anew(document: dict[str, Any]) -> bytes:
    """The document with a signature that fits, as only the holder of the key could make it."""
    return json.dumps({**document, "signature": keys().sign_receipt(document)}).encode()


def ok(raw: bytes) -> bool:
    """Whether all of a file is proved."""
    try:
        return all(verdict.ok for verdict in check(raw, VERIFIERS))
    except NoteError:
        return False


def test_a_sound_receipt_is_proved(raw: bytes) -> None:
    """With the right key; and it says what that proves, and what it does not."""
    (verdict,) = check(raw, VERIFIERS)
    assert (verdict.ok, verdict.problems) == (True, [])
    said = "\n".join(verdict.proves)
    for words in ("was made by who holds the key", "given for performance", "the very text", "number 4 of the log"):
        assert words in said
    assert any("really this person" in each for each in verdict.leaves_open)
    assert any("no timestamp" in each for each in verdict.leaves_open)


def test_another_key_proves_nothing(raw: bytes) -> None:
    """Neither the receipt nor the checkpoint is signed by it."""
    (verdict,) = check(raw, keys(f":1:{'66' * 32}").verifiers)
    assert not verdict.ok
    assert verdict.problems.count("not signed by any of the given keys") == 2


def test_every_byte_of_a_receipt_counts(raw: bytes) -> None:
    """Each byte with a bit flipped, replaced by a digit, or left out: refused, or not found sound."""
    for place, byte in enumerate(raw):
        for other in (bytes([byte ^ 1]), bytes([byte ^ 0x20]), b"7", b""):
            altered = raw[:place] + other + raw[place + 1 :]
            assert altered == raw or not ok(altered), altered[max(0, place - 20) : place + 20]


def test_the_form_does_not_count(raw: bytes) -> None:
    """Indented, in another order, with escapes: the same receipt."""
    document = json.loads(raw)
    assert ok(json.dumps(document, indent=4, ensure_ascii=True).encode())
    assert ok(json.dumps(dict(reversed(document.items()))).encode())


def test_several_receipts_in_one_file(raw: bytes) -> None:
    """As the choices page hands them out; one that is wrong is told apart."""
    one = json.loads(raw)
    many = {"kind": "pixelproof-receipts", "v": 1, "receipts": [one, {**one, "seq": 2}]}
    assert [verdict.ok for verdict in check(json.dumps(many).encode(), VERIFIERS)] == [True, False]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another entry": (lambda d: d.update(entry=d["entry"].replace("given", "refused")), "does not have the hash"),
    "another hash": (lambda d: d.update(entry_hash="00" * 32), "does not have the hash"),
    "another person": (lambda d: d.update(recipient="00" * 16), "somebody else"),
    "another number": (lambda d: d.update(seq=2), "another number"),
    "says otherwise": (lambda d: d["says"].update(action="refused"), "not what the entry says: action"),
    "another purpose": (lambda d: d["says"].update(purposes=["profiling"]), "not what the entry says: purposes"),
    "another text": (lambda d: d["notice"].update(text="something else"), "does not have the hash that the entry"),
    "another notice": (lambda d: d["notice"].update(version="2027-01"), "not the one that the entry names"),
    "no notice": (lambda d: d.update(notice=None), "holds none"),
    "another index": (lambda d: d["proof"].update(index=1), "does not lead"),
    "a negative index": (lambda d: d["proof"].update(index=-1), "does not lead"),
    "a huge index": (lambda d: d["proof"].update(index=2**53), "does not lead"),
    "a shorter path": (lambda d: d["proof"]["path"].pop(), "does not lead"),
    "a longer path": (lambda d: d["proof"]["path"].append("00" * 32), "does not lead"),
    "no hash": (lambda d: d["proof"]["path"].append("00"), "no hash"),
    "no path": (lambda d: d["proof"].update(path=None), "missing or malformed"),
    "another checkpoint": (
        lambda d: d["proof"].update(checkpoint=keys().sign(6, bytes(32)).decode()),
        "does not lead",
    ),
    "a stranger's checkpoint": (
        lambda d: d["proof"].update(checkpoint=keys(f":1:{'66' * 32}").sign(6, bytes(32)).decode()),
        "not signed by any",
    ),
    "a receipt as checkpoint": (
        lambda d: d["proof"].update(checkpoint=signed_text(d) + "\n" + keys().sign_receipt(d)),
        "not a checkpoint",
    ),
    "no proof field": (lambda d: d.pop("proof"), "missing or malformed"),
    "entry with blanks": (lambda d: d.update(entry=d["entry"].replace(":", ": ")), "not canonical"),
    "no entry": (lambda d: d.update(entry="[]"), "another form"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_the_sender_itself_could_put_together_is_found(raw: bytes, name: str) -> None:
    """Signed anew with the right key: each part is checked against the others."""
    change, problem = CHANGES[name]
    document = json.loads(raw)
    change(document)
    (verdict,) = check(signed_anew(document), VERIFIERS)
    assert not verdict.ok
    assert any(problem in said for said in verdict.problems), verdict.problems


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"kind":"pixelproof-receipt","v":2}',
        '{"kind":"pixelproof-receipts","v":1,"receipts":[]}',
        '{"kind":"pixelproof-receipts","v":1,"receipts":[1]}',
        '{"kind":"pixelproof-receipt","v":1,"v":1}',
        '{"kind":"pixelproof-receipt","v":1.0}',
        '{"kind":"pixelproof-receipt","v":1,"x":NaN}',
        '{"kind":"pixelproof-receipt","v":1,"x":9007199254740993}',
        '{"kind":"pixelproof-receipt","v":1,"\\ud800":1}',
        '{"kind":"pixelproof-receipt","v":1,"x":"\\ud800"}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=range(15),
)
def test_what_is_no_receipt_is_refused(text: str) -> None:
    """In words, as NoteError and nothing else."""
    with pytest.raises(NoteError):
        check(text.encode(), VERIFIERS)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_nothing_makes_it_fail_otherwise(value: object) -> None:
    """Whatever stands in the fields of a receipt."""
    document = {"kind": "pixelproof-receipt", "v": 1}
    for names in (("signature", "entry", "notice"), ("proof", "says", "entry_hash")):
        document |= dict.fromkeys(names, value)
        assert not ok(json.dumps(document).encode("utf-8", "surrogatepass"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(st.characters(max_codepoint=127)), v),
    )
)
def test_canonical_json_is_that_of_rfc_8785(value: Any) -> None:  # noqa: ANN401 - any JSON
    """As an implementation that is not ours writes it."""
    assert canonical(value) == rfc8785.dumps(value)


# The file on its own


def test_it_imports_nothing_but_the_standard_library_and_cryptography() -> None:
    """Whoever takes it along needs nothing else of ours."""
    tree = ast.parse(Path(core.receipt_check.__file__).read_text("utf-8"))
    imported = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    imported += [alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names]
    foreign = {str(name).split(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign == {"cryptography"}


def test_it_runs_on_its_own(raw: bytes, tmp_path: Path) -> None:
    """Copied elsewhere and run without the package: the same words, the same exit codes."""
    script, receipt = tmp_path / "receipt_check.py", tmp_path / "receipt.json"
    shutil.copy(core.receipt_check.__file__, script)
    receipt.write_bytes(raw)
    for key, code in ((KEY, 0), (OTHER, 1), ("nonsense", 2)):
        command = [sys.executable, "-I", str(script), str(receipt), "--key", key]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own code
        assert done.returncode == code, done.stderr
    assert "verifier key looks like" in done.stderr


def test_its_exit_codes(raw: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 proved, 1 not, 2 no such file; a timestamp is named as not checked here."""
    file = tmp_path / "receipt.json"
    file.write_bytes(raw)
    assert main([str(file), "--key", OTHER, "--key", KEY]) == 0
    assert "✓ the entry is number 4" in capsys.readouterr().out
    document = json.loads(raw)
    document["proof"]["timestamp"] = "AAAA"
    file.write_bytes(signed_anew(document))
    assert main([str(file), "--key", KEY]) == 0
    assert "openssl ts -verify" in capsys.readouterr().out
    assert main([str(tmp_path / "none.json"), "--key", KEY]) == 2
