"""Checkpoints, keys and cosignatures: read as the specifications have them, and nothing else."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from core.checkpoints import NotaryKeys, add_checkpoint, checked_origin, cosigned, origin_of, witness_key
from core.errors import SettingsError
from core.receipt_check import (
    COSIGNATURE,
    NoteError,
    VerifierKey,
    checkpoint,
    note,
    signature_line,
    verifier_key,
)
from core.settings import NotarySettings, Sender, Settings, check_notary

ORIGIN = "log.example.com/consents"
ONE, TWO = "11" * 32, "22" * 32
ROOT = bytes(range(32))
# The examples of c2sp.org/tlog-checkpoint and c2sp.org/tlog-cosignature.
EXAMPLE = (
    "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
    "— example.com/behind-the-sofa"
    " Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    "— witness.example.com/w1"
    " jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
)


def keys(text: str = f":1:{ONE}") -> NotaryKeys:
    """The log's keys."""
    return NotaryKeys.parse(text, ORIGIN)


def witnessed(raw: bytes, *, seconds: int = 1_679_315_147) -> tuple[VerifierKey, bytes]:
    """A witness, and the checkpoint with its cosignature."""
    private = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
    witness = VerifierKey("witness.example.com", private.public_key().public_bytes_raw(), COSIGNATURE)
    text = note(raw).text
    signature = private.sign(f"cosignature/v1\ntime {seconds}\n{text}".encode())
    return witness, raw + signature_line(witness, seconds.to_bytes(8) + signature).encode()


def test_the_specifications_example_is_read() -> None:
    """Origin, size and root; two signatures, the key id first."""
    signed = note(EXAMPLE.encode())
    head = checkpoint(signed.text)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert base64.b64encode(head.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert [(s.name, s.id.hex(), len(s.value)) for s in signed.signatures] == [
        ("example.com/behind-the-sofa", "033de0ae", 64),
        ("witness.example.com/w1", "8d66cf3f", 72),
    ]


def test_a_checkpoint_is_signed_and_opened() -> None:
    """Three lines, a blank one, the log's signature, and it reads back."""
    raw = keys().sign(7, ROOT)
    assert raw.decode().split("\n")[:4] == [ORIGIN, "7", base64.b64encode(ROOT).decode(), ""]
    head = keys().open(raw)
    assert (head.origin, head.size, head.root) == (ORIGIN, 7, ROOT)


def test_every_byte_of_a_checkpoint_counts() -> None:
    """Any bit of it flipped: it is refused, or what is read is the same (which nothing here is)."""
    raw = keys().sign(20, ROOT)
    for place, byte in enumerate(raw):
        for bit in range(8):
            altered = raw[:place] + bytes([byte ^ 1 << bit]) + raw[place + 1 :]
            with pytest.raises(NoteError):
                keys().open(altered)


def test_every_truncation_is_refused() -> None:
    """And so is whatever is added behind it."""
    raw = keys().sign(20, ROOT)
    for length in range(len(raw)):
        with pytest.raises(NoteError):
            keys().open(raw[:length])
    for more in (b"\n", b"x", b"\nx\n", b"\xff"):
        with pytest.raises(NoteError):
            keys().open(raw + more)


def test_signatures_of_strangers_are_passed_over() -> None:
    """But a known key's wrong signature beside a right one spoils the note."""
    raw = keys().sign(3, ROOT)
    stranger = NotaryKeys.parse(f"other:1:{TWO}", ORIGIN)
    line = stranger.signature(note(raw).text).encode()
    assert keys().open(raw + line).size == 3
    wrong = keys().signature("something else\n").encode()
    with pytest.raises(NoteError, match="wrong"):
        keys().open(raw + wrong)
    with pytest.raises(NoteError, match="not signed by any"):
        stranger.open(raw)


def test_the_newest_version_signs_and_all_verify() -> None:
    """A rotation: what the first key signed stays valid, and the second signs from then on."""
    before, both, after = keys(), keys(f":1:{ONE}, :2:{TWO}"), keys(f":2:{TWO}")
    assert both.open(before.sign(1, ROOT)).size == 1
    assert after.open(both.sign(2, ROOT)).size == 2
    with pytest.raises(NoteError):
        before.open(both.sign(2, ROOT))


def test_another_logs_checkpoint_is_refused() -> None:
    """Signed by the same key under the same name, but of another origin."""
    other = NotaryKeys.parse(f"{ORIGIN}:1:{ONE}", "elsewhere.example.com")
    with pytest.raises(NoteError, match="origin"):
        keys().open(other.sign(1, ROOT))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        ":1:",
        f":x:{ONE}",
        f":1:{ONE[:-2]}",
        f":1:{ONE},:1:{TWO}",
        f"a b:1:{ONE}",
        f"a+b:1:{ONE}",
        f":1:{ONE}zz",
    ],
    ids=["nothing", "no-parts", "no-key", "no-number", "short", "twice", "blank", "plus", "no-hex"],
)
def test_wrong_keys_are_refused_without_being_repeated(text: str) -> None:
    """The message names the variable, and holds nothing of the key."""
    with pytest.raises(SettingsError, match="PIXELPROOF_NOTARY_KEYS") as refused:
        keys(text)
    assert ONE[:8] not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_key_shows_nothing_of_itself() -> None:
    """Neither the keys' repr nor a key's own holds the secret."""
    assert ONE not in repr(keys())


def test_a_verifier_key_reads_back() -> None:
    """Its text is name, id and type with key (c2sp.org/signed-note)."""
    (key,) = keys(f"named:1:{ONE}").verifiers
    assert verifier_key(str(key)) == key
    name, number, encoded = str(key).split("+", 2)
    assert (name, number, base64.b64decode(encoded)[0]) == ("named", key.id.hex(), 1)


@given(st.text(max_size=80))
def test_no_text_makes_reading_a_key_fail_otherwise(text: str) -> None:
    """NoteError, or a key whose text is what was given but for blanks and case."""
    try:
        key = verifier_key(text)
    except NoteError:
        return
    assert str(key).lower() == text.strip().lower()


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_make_reading_a_note_fail_otherwise(raw: bytes) -> None:
    """NoteError and nothing else, whatever is read."""
    with pytest.raises(NoteError):
        keys().open(raw)


@given(st.lists(st.sampled_from(["—", " ", "a", "\n", "\n\n", "AAAAAAA=", "AAAAAAAA", "+", "\u2003"]), max_size=20))
def test_nothing_like_a_note_makes_it_fail_otherwise(parts: list[str]) -> None:
    """Lines with the mark, blanks and base64 in any order."""
    try:
        found = note("".join(parts).encode())
    except NoteError:
        return
    assert found.text.endswith("\n")
    assert found.signatures


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "\n1\n{root}\n",
        "o\n01\n{root}\n",
        "o\n-1\n{root}\n",
        "o\n9223372036854775808\n{root}\n",
        "o\n1\nAAAA\n",
        "o\n1\n{root}\n\n",
        "o\n1\n{root}x\n",
        "o\n\u0661\n{root}\n",
    ],
    ids=[
        "short",
        "no-origin",
        "zero-first",
        "negative",
        "too-large",
        "no-root",
        "blank",
        "longer-root",
        "other-digits",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    """Although it is signed."""
    filled = text.format(root=base64.b64encode(ROOT).decode())
    with pytest.raises(NoteError):
        checkpoint(filled)


def test_extension_lines_are_passed_over() -> None:
    """They are allowed, and mean nothing here."""
    assert checkpoint(f"o\n1\n{base64.b64encode(ROOT).decode()}\nmore\n").size == 1


# Witnesses


def test_a_cosignature_is_found_with_its_time() -> None:
    """By a witness that is known; without it, by nobody."""
    witness, raw = witnessed(keys().sign(5, ROOT))
    (found,) = cosigned(note(raw), [witness])
    assert (found.witness, found.at.isoformat()) == (witness, "2023-03-20T12:25:47+00:00")
    assert cosigned(note(raw), []) == ()
    assert keys().open(raw).size == 5


def test_every_byte_of_a_cosignature_counts() -> None:
    """Time and signature: any bit flipped, and the cosignature is refused or nobody's."""
    witness, raw = witnessed(keys().sign(5, ROOT))
    start = raw.rindex(b" ") + 1
    value = base64.b64decode(raw[start:])
    for place in range(len(value)):
        altered = value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :]
        line = raw[:start] + base64.b64encode(altered) + b"\n"
        try:
            assert cosigned(note(line), [witness]) == ()
        except NoteError:
            continue
        assert place < 4


def test_a_cosignature_of_another_checkpoint_is_refused() -> None:
    """Copied from one checkpoint to the next."""
    witness, raw = witnessed(keys().sign(5, ROOT))
    moved = keys().sign(6, ROOT) + raw[raw.rindex("—".encode()) :]
    with pytest.raises(NoteError, match="wrong"):
        cosigned(note(moved), [witness])


def test_a_witness_is_asked_as_the_specification_has_it() -> None:
    """Old size, the proof's lines, a blank line, the checkpoint (c2sp.org/tlog-witness)."""
    raw = keys().sign(5, ROOT)
    proof = base64.b64encode(ROOT).decode()
    assert add_checkpoint(4, [ROOT, ROOT], raw) == f"old 4\n{proof}\n{proof}\n\n".encode() + raw


def test_a_witness_of_the_settings_must_be_one() -> None:
    """A log's key is refused, and so is what is no key."""
    witness, _ = witnessed(keys().sign(5, ROOT))
    assert witness_key(str(witness)) == witness
    for wrong in (str(keys().verifiers[0]), "x", ""):
        with pytest.raises(SettingsError, match="witnesses"):
            witness_key(wrong)


@pytest.mark.parametrize(
    ("url", "origin"),
    [("https://a.example.com", "a.example.com"), ("http://127.0.0.1:8080", "127.0.0.1:8080"), ("https://a/b", "a/b")],
)
def test_a_log_is_named_after_its_address(url: str, origin: str) -> None:
    """The base URL without its scheme."""
    assert origin_of(url) == origin


@pytest.mark.parametrize("text", ["", "a b", "a+b", "a\nb", "a\u2003b"], ids=["none", "blank", "plus", "line", "space"])
def test_an_origin_that_cannot_be_one_is_refused(text: str) -> None:
    """It stands in a line of its own, and in a key's name."""
    with pytest.raises(SettingsError, match="origin"):
        checked_origin(text)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("origin", "a b", "origin"),
        ("witnesses", ("nonsense",), "witnesses"),
        ("timestamp_url", "tsa.example.com", "timestamp_url"),
    ],
)
def test_settings_of_the_log_are_checked(setting: str, value: object, said: str) -> None:
    """Before anything is signed."""
    notary = NotarySettings(**{setting: value})  # type: ignore[arg-type]
    settings = Settings(sender=Sender(name="Example"), base_url="https://a.example.com", purposes=(), notary=notary)
    with pytest.raises(SettingsError, match=said):
        check_notary(settings)
