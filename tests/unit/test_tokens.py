"""Tokens: what is altered, foreign, revoked or for another use is refused, with TokenError and nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from core.errors import SettingsError, TokenError
from core.links import Links, carried
from core.model import RecipientId
from core.tokens import TOKEN_CHARS, Tokens, Use

FIRST, SECOND = bytes(range(64)), bytes(range(64, 128))
TOKENS = Tokens({1: FIRST})
ADA = RecipientId(bytes.fromhex("00112233445566778899aabbccddeeff"))
TOKEN = TOKENS.make(ADA, Use.CHOICES)

recipients = st.binary(min_size=16, max_size=16).map(RecipientId)


@given(recipients, st.sampled_from(Use))
def test_a_token_opens_to_its_recipient(recipient: RecipientId, use: Use) -> None:
    """44 characters that fit into a path unquoted, the same each time, and back to the recipient."""
    token = TOKENS.make(recipient, use)
    assert TOKENS.open(token, use) == recipient
    assert len(token) == TOKEN_CHARS
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert TOKENS.make(recipient, use) == token


@given(recipients, recipients)
def test_a_token_says_nothing_about_the_recipient(one: RecipientId, other: RecipientId) -> None:
    """Only the key's version stands in it: no byte of the recipient shows, and two differ from the start."""
    assume(one != other)
    raws = [base64.urlsafe_b64decode(TOKENS.make(r, Use.CHOICES)) for r in (one, other)]
    assert raws[0][0] == raws[1][0] == 1
    assert raws[0][1:17] != raws[1][1:17]
    assert bytes(one) not in raws[0]


@pytest.mark.parametrize("bit", range(TOKEN_CHARS * 8))
def test_every_altered_bit_of_the_text_is_refused(bit: int) -> None:
    """Whichever bit of the characters flips: TokenError."""
    altered = bytearray(TOKEN.encode())
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(TokenError):
        TOKENS.open(altered.decode("latin-1"), Use.CHOICES)


def test_every_altered_bit_of_the_content_is_refused() -> None:
    """Whichever bit of the 33 bytes flips, the spelling being in order."""
    raw = base64.urlsafe_b64decode(TOKEN)
    for bit in range(len(raw) * 8):
        altered = bytearray(raw)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TokenError):
            TOKENS.open(base64.urlsafe_b64encode(altered).decode(), Use.CHOICES)


@given(st.text() | st.text(min_size=TOKEN_CHARS, max_size=TOKEN_CHARS))
@example("")
@example("é" * TOKEN_CHARS)
@example("\ud800" * TOKEN_CHARS)
@example("=" * TOKEN_CHARS)
@example("AQ==" + "A" * 40)
@example("A" * 43 + "=")
@example(TOKEN + "\n")
@example(TOKEN + "=")
@example(" " + TOKEN)
@example(TOKEN[:-1])
def test_arbitrary_text_is_refused(text: str) -> None:
    """Whatever stands in a path: TokenError and nothing else."""
    assume(text != TOKEN)
    with pytest.raises(TokenError):
        TOKENS.open(text, Use.CHOICES)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_under_a_held_version_are_refused(rest: bytes) -> None:
    """Well spelt, with the right version, of any length: TokenError."""
    with pytest.raises(TokenError):
        TOKENS.open(base64.urlsafe_b64encode(b"\x01" + rest).decode(), Use.CHOICES)


def test_a_token_has_one_spelling() -> None:
    """The other base64 alphabet decodes to the same bytes, and is an altered token all the same."""
    spelt = [TOKENS.make(RecipientId(n.to_bytes(16, "big")), Use.PIXEL) for n in range(50)]
    others = [token.replace("-", "+").replace("_", "/") for token in spelt]
    assert sum(one != other for one, other in zip(spelt, others, strict=True)) > 10
    for token, other in zip(spelt, others, strict=True):
        if other != token:
            with pytest.raises(TokenError):
                TOKENS.open(other, Use.PIXEL)


@given(recipients)
def test_a_token_serves_one_use(recipient: RecipientId) -> None:
    """A pixel path, which many machines see, opens nobody's choices, and the other way round."""
    with pytest.raises(TokenError):
        TOKENS.open(TOKENS.make(recipient, Use.PIXEL), Use.CHOICES)
    with pytest.raises(TokenError):
        TOKENS.open(TOKENS.make(recipient, Use.CHOICES), Use.PIXEL)


def test_keys_are_replaced_and_revoked() -> None:
    """New tokens take the newest key; old ones live as long as theirs is held; another key opens nothing."""
    both = Tokens({1: FIRST, 2: SECOND})
    new = both.make(ADA, Use.CHOICES)
    assert new != TOKEN
    assert both.open(TOKEN, Use.CHOICES) == both.open(new, Use.CHOICES) == ADA
    only_new = Tokens({2: SECOND})
    assert only_new.open(new, Use.CHOICES) == ADA
    for opener, token in ((only_new, TOKEN), (TOKENS, new), (Tokens({1: SECOND}), TOKEN)):
        with pytest.raises(TokenError):
            opener.open(token, Use.CHOICES)


def test_errors_never_repeat_the_token() -> None:
    """The text of a refusal may be logged."""
    for text in (TOKEN[::-1], TOKEN[:-1] + "A", "A" * TOKEN_CHARS):
        with pytest.raises(TokenError) as refused:
            TOKENS.open(text, Use.CHOICES)
        assert text[:6] not in str(refused.value)


@pytest.mark.parametrize("keys", [{}, {0: FIRST}, {256: FIRST}, {1: FIRST[:32]}, {1: FIRST, 2: b""}])
def test_bad_keys_are_a_wrong_setting(keys: dict[int, bytes]) -> None:
    """The error names the variable and what it must hold."""
    with pytest.raises(SettingsError, match=r"PIXELPROOF_TOKEN_KEYS: .*64 bytes"):
        Tokens(keys)


def test_links_carry_tokens_of_their_own_use() -> None:
    """The page's link and the pixel's path lead back to the recipient, each through its own door."""
    links = Links("https://choices.example.com", TOKENS)
    url, path = links.choices_url(ADA), links.pixel_path(ADA)
    assert url.startswith("https://choices.example.com/c/")
    assert TOKENS.open(url.rpartition("/")[2], Use.CHOICES) == ADA
    assert path.startswith("o/")
    assert TOKENS.open(path.removeprefix("o/"), Use.PIXEL) == ADA


def test_what_an_esp_carries_has_a_digest() -> None:
    """It changes with the link or the path, and with nothing else."""
    links = Links("https://choices.example.com", TOKENS)
    one = links.contact(ADA, "ada@example.org", "fr", pixel_path="")
    assert carried(one) == carried(links.contact(ADA, "ada@example.org", None, pixel_path=""))
    assert carried(one) != carried(links.contact(ADA, "ada@example.org", "fr", pixel_path="a"))
    moved = Links("https://elsewhere.example.com", TOKENS)
    assert carried(one) != carried(moved.contact(ADA, "ada@example.org", "fr", pixel_path=""))
