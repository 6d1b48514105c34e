"""Addresses: one spelling for each, a pseudonym that says nothing, a mask that shows little."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from core.addresses import masked, normalise, pseudonym
from core.errors import AddressError
from core.model import Contact, EventKind, Member, ProviderEvent, RecipientId, WebhookRequest
from core.settings import Secrets

KEY = b"k" * 32
RECEIVED = datetime(2026, 11, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "known"),
    [
        ("ada@example.org", "ada@example.org"),
        ("  Ada@EXAMPLE.org\t", "ada@example.org"),
        ("ada+news@example.org", "ada+news@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
        ("zoe\u0301@example.org", "zo\u00e9@example.org"),
        ("ada@shop.test", "ada@shop.test"),
    ],
)
def test_spellings_of_one_address_become_one(typed: str, known: str) -> None:
    """Blanks, case, IDNA and Unicode composition make no second person."""
    assert normalise(typed) == known


@given(st.emails())
def test_normalising_is_idempotent(address: str) -> None:
    """What is stored normalises to itself, or one person would have two pseudonyms."""
    try:
        once = normalise(address)
    except AddressError:
        return
    assert normalise(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ada",
        "@example.org",
        "ada@",
        "ada@@example.org",
        "a da@example.org",
        "ada@example..org",
        "ada@[127.0.0.1]",
        '"a b"@example.org',
        "Ada <ada@example.org>",
        "ada@example.org, bob@example.org",
        "ada\n@example.org",
        "ada\x00@example.org",
        "\ud800@example.org",
        f"{'l' * 65}@example.org",
        f"{'l' * 64}@{'.'.join(['éa' * 20] * 4)}.fr",
        f"{'l' * 64}@{'d' * 60}.{'d' * 60}.{'d' * 60}.example",
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(text: str) -> None:
    """The error says that it is none and holds nothing of it."""
    with pytest.raises(AddressError) as refused:
        normalise(text)
    said = str(refused.value)
    assert said
    assert not text.strip() or text.strip() not in said
    assert refused.value.__context__ is None or refused.value.__suppress_context__


@given(st.text(st.characters(), max_size=40))
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    """Nothing but AddressError leaves, whatever is typed; what passes has one @ and no capitals or blanks."""
    try:
        known = normalise(text)
    except AddressError:
        return
    assert known.count("@") == 1
    assert known == known.lower().strip()


def test_254_characters_are_the_limit() -> None:
    """RFC 5321: 254 pass, 255 do not."""
    longest = f"{'l' * 64}@{'d' * 61}.{'d' * 61}.{'d' * 57}.example"
    assert len(longest) == 254
    assert normalise(longest) == longest
    with pytest.raises(AddressError, match="254"):
        normalise("l" + longest)


@given(st.emails(), st.emails(), st.binary(min_size=32, max_size=32))
def test_a_pseudonym_is_a_truncated_hmac(one: str, other: str, key: bytes) -> None:
    """16 bytes of HMAC-SHA256 over the address under the key: the same for the same, and only then."""
    expected = hmac.new(key, one.encode(), hashlib.sha256).hexdigest()[:32]
    assert pseudonym(key, one).hex() == expected
    assert (pseudonym(key, one) == pseudonym(key, other)) is (one == other)
    assert pseudonym(key, one) != pseudonym(KEY, one) or key == KEY


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("ada.lovelace@example.org", "a••••e@e••••e.org"),
        ("bob@mail.example.co.uk", "b••••@m••••l.example.co.uk"),
        ("x@y.org", "x••••@y••••.org"),
    ],
)
def test_a_masked_address_shows_first_and_last_letters(address: str, shown: str) -> None:
    """A passer-by learns neither the name nor its length."""
    assert masked(address) == shown


@given(st.text("abcdefghij", min_size=2, max_size=30))
def test_a_mask_shows_at_most_two_letters_of_a_name(local: str) -> None:
    """However long the name is; and at least one letter is always hidden."""
    name = masked(f"{local}@example.org").partition("@")[0]
    assert len(name.replace("•", "")) <= min(2, len(local) - 1)


def test_no_repr_shows_an_address_or_a_key() -> None:
    """What could reach a log by accident holds no address, no link, no body and no key."""
    address, link = "ada@example.org", "https://choices.example.com/c/secret"
    shown = [
        Contact(RecipientId(b"r" * 16), address, "fr", link, "o/secret"),
        Member(address, frozenset()),
        ProviderEvent(
            "ses", EventKind.OPEN, "Open", RECEIVED, ("k",), address, new_address=address, raw={"to": address}
        ),
        WebhookRequest("POST", "/webhooks/ses", {"authorization": "secret"}, address.encode()),
        Secrets({"PIXELPROOF_LEDGER_KEY": "secret"}),
    ]
    said = " ".join(map(repr, shown))
    assert address not in said
    assert "secret" not in said


@given(
    st.emails(domains=st.sampled_from(["example.org", "Bücher.example", "xn--nxasmq6b.example", "localhost", "a..b"]))
)
def test_the_quick_way_is_the_thorough_one(address: str) -> None:
    """Plain addresses take a shortcut past the library: it accepts, refuses and spells exactly as the library does."""
    assert_as_the_library(address)


def assert_as_the_library(address: str) -> None:
    """Normalise and compare with what email-validator says."""
    try:
        checked = validate_email(address, check_deliverability=False, test_environment=True, strict=True)
    except EmailNotValidError:
        with pytest.raises(AddressError):
            normalise(address)
    else:
        assert normalise(address) == f"{checked.local_part}@{checked.ascii_domain}".lower()


LABELS = st.sampled_from(["a", "B", "9", "-", "--", "xn--", "ab--c", "xn--nxasmq6b", "x" * 32, "é", "_", "K"])
ENDINGS = st.sampled_from(
    ["org", "ORG", "o", "1g", "test", "local", "localhost", "INVALID", "onion", "arpa", "localx", "org.", "or-g"]
)


@given(labels=st.lists(st.lists(LABELS, max_size=3).map("".join), max_size=9), ending=ENDINGS)
def test_the_quick_way_with_domains_is_the_thorough_one(labels: list[str], ending: str) -> None:
    """The same for domains of every form: too long, reserved, Punycode, with hyphens where none may stand."""
    assert_as_the_library(f"ada@{'.'.join([*labels, ending])}")
