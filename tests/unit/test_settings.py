"""Settings: what is wrong is refused with the setting's name, and no secret is ever repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SettingsError
from core.model import CampaignKind, Mechanism, Party, PurposeId, RecipientId, Role
from core.settings import (
    Secrets,
    Sender,
    campaign_id,
    load,
    load_campaign,
    load_secrets,
    settings_path,
)
from core.stores.embedded import LEDGER_FILE
from core.tokens import Tokens, Use
from webhooks.assembly import Services

GOOD = """
base_url = "https://choices.example.com"
purposes = ["performance", "deliverability"]

[sender]
name = "Example"

[topics]
"ses:newsletter" = ["performance"]

[[parties]]
name = "Helper"
role = "processor"
purposes = ["performance"]
"""
CAMPAIGN = """
id = "autumn"
provider = "ses"
kind = "requested"
purposes = ["performance"]

[content]
template = "t1"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The settings file."""
    return tmp_path / "pixelproof.toml"


def test_a_small_file_is_enough(file: Path) -> None:
    """The rest has defaults, and those are the protective ones."""
    file.write_text(GOOD, "utf-8")
    settings = load(file)
    assert settings.purposes == ("performance", "deliverability")
    assert (settings.policy, settings.on_unsubscribe, settings.data) == ("cnil-2025-draft", "withdraw", "data")
    assert settings.open_retention_months == 13
    assert settings.load_policy().id == "cnil-2025-draft"
    assert settings.controller() == Party("Example", Role.CONTROLLER)
    assert settings.register() == (Party("Helper", Role.PROCESSOR, purposes=(PurposeId("performance"),)),)
    assert settings.topics == {"ses:newsletter": ("performance",)}


@pytest.mark.parametrize(
    ("part", "instead", "named"),
    [
        ('name = "Example"', 'nam = "Example"', "nam"),
        ('name = "Example"', 'name = "Example"\ncolour = "red"', "colour"),
        ("[sender]", 'purpose = ["profiling"]\n[sender]', "purpose"),
        ('name = "Helper"', 'name = "Helper"\nsecret = "x"', "secret"),
        ('role = "processor"', 'role = "friend"', "role"),
        ('base_url = "https://choices.example.com"', "", "base_url"),
        ('purposes = ["performance", "deliverability"]', "", "purposes"),
        ('purposes = ["performance", "deliverability"]', "purposes = []", "purposes: "),
        ('"deliverability"]', '"opens"]', "purposes: no purpose 'opens'"),
        ('"deliverability"]', '"aggregate_audience"]', "purposes: aggregate_audience is exempt"),
        ('newsletter" = ["performance"]', 'newsletter" = ["opens"]', "topics.ses:newsletter: no purpose 'opens'"),
        (
            'newsletter" = ["performance"]',
            'newsletter" = ["authentication_security"]',
            "topics.ses:newsletter: authentication_security is exempt",
        ),
        (
            'role = "processor"\npurposes = ["performance"]',
            'role = "processor"\npurposes = ["aggregate_audience"]',
            "parties, Helper: aggregate_audience is exempt",
        ),
        ("[sender]", 'policy = "cnil-2031"\n[sender]', "policy = 'cnil-2031'"),
        ("[sender]", 'on_unsubscribe = "ignore"\n[sender]', "on_unsubscribe"),
        ("[sender]", "open_retention_months = 0\n[sender]", "open_retention_months"),
        ("[sender]", 'open_retention_months = "13"\n[sender]', "open_retention_months"),
        ("[sender]", 'personalisation_options = ["mood"]\n[sender]', "personalisation_options: 'mood'"),
        ("[sender]", 'couplings = ["everything"]\n[sender]', "coupling 'everything'"),
        ("[sender]", "= 1\n[sender]", "line"),
    ],
)
def test_a_wrong_setting_is_named(file: Path, part: str, instead: str, named: str) -> None:
    """The error says which setting it is."""
    assert part in GOOD
    file.write_text(GOOD.replace(part, instead, 1), "utf-8")
    with pytest.raises(SettingsError) as refused:
        load(file)
    assert named in str(refused.value)


def test_good_settings_at_their_limits(file: Path) -> None:
    """A month of retention, the policy's own options and couplings, the other policy on unsubscriptions."""
    more = """
open_retention_months = 1
on_unsubscribe = "keep"
personalisation_options = ["content", "campaign_optimisation"]
couplings = ["prospecting-measurement"]
"""
    file.write_text(GOOD.replace("[sender]", f"{more}[sender]"), "utf-8")
    settings = load(file)
    assert (settings.open_retention_months, settings.on_unsubscribe) == (1, "keep")
    assert settings.personalisation_options == ("content", "campaign_optimisation")
    assert settings.couplings == ("prospecting-measurement",)


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    """Missing, or no text: with what to do."""
    with pytest.raises(SettingsError, match=r"^pixelproof\.toml: No such file .*pixelproof init"):
        load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"^pixelproof\.toml: "):
        load(file)


@pytest.mark.parametrize(
    "url",
    [
        "https://choices.example.com",
        "https://example.com/choices",
        "https://example.com:8443",
        "http://127.0.0.1:8000",
        "http://localhost",
        "http://[::1]:8000",
    ],
)
def test_a_base_url_to_append_to(file: Path, url: str) -> None:
    """HTTPS, or plain HTTP on this machine."""
    file.write_text(GOOD.replace("https://choices.example.com", url), "utf-8")
    assert load(file).base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "choices.example.com",
        "https://",
        "https:///path",
        "https://choices.example.com/",
        "https://choices.example.com?a=b",
        "https://choices.example.com?",
        "https://choices.example.com#top",
        "https://choices.example.com/a b",
        "https://user:word@choices.example.com",
        "https://[choices",
        "https://choices.example.com:99999",
        "https://choices.example.com:port",
        "ftp://choices.example.com",
        "http://choices.example.com",
        "http://127.0.0.1.example.com",
    ],
)
def test_other_base_urls_are_refused(file: Path, url: str) -> None:
    """Links are made by appending to it, and tokens must not travel in the clear."""
    file.write_text(GOOD.replace("https://choices.example.com", url), "utf-8")
    with pytest.raises(SettingsError, match=r"^base_url: "):
        load(file)


# Campaign files


def test_a_campaign_file_is_read(tmp_path: Path) -> None:
    """Its own words become a campaign; the ESP's pixel is the usual mechanism, and no aggregate pixel is counted."""
    (tmp_path / "autumn.toml").write_text(CAMPAIGN, "utf-8")
    campaign = load_campaign(tmp_path / "autumn.toml").campaign()
    assert (campaign.id, campaign.kind, campaign.mechanism) == ("autumn", CampaignKind.REQUESTED, Mechanism.PROVIDER)
    assert (campaign.aggregate, dict(campaign.content)) == (False, {"template": "t1"})


@pytest.mark.parametrize(
    ("part", "instead", "named"),
    [
        ('kind = "requested"', 'kind = "newsletter"', "kind"),
        ('kind = "requested"', 'kind = "requested"\nmechanism = "magic"', "mechanism"),
        ('kind = "requested"', 'kind = "requested"\ntrack = true', "track"),
        ('template = "t1"', "template = 1", "content"),
        ('id = "autumn"', "", "id"),
    ],
)
def test_a_wrong_campaign_file_is_refused(tmp_path: Path, part: str, instead: str, named: str) -> None:
    """With the file and the field."""
    (tmp_path / "autumn.toml").write_text(CAMPAIGN.replace(part, instead), "utf-8")
    with pytest.raises(SettingsError, match=r"^autumn\.toml: ") as refused:
        load_campaign(tmp_path / "autumn.toml")
    assert named in str(refused.value)


@given(st.text(max_size=70))
def test_campaign_ids_fit_into_a_path(text: str) -> None:
    """1 to 64 of a few characters, or a SettingsError that does not repeat it."""
    allowed = set("abcdefghijklmnopqrstuvwxyz0123456789_-")
    if 1 <= len(text) <= 64 and set(text) <= allowed and text[0] not in "_-":
        assert campaign_id(text) == text
    else:
        with pytest.raises(SettingsError, match=r"^campaign id: "):
            campaign_id(text)


@pytest.mark.parametrize("text", ["a" * 64, "0", "a-b_c"])
def test_good_campaign_ids(text: str) -> None:
    """The limits are inside."""
    assert campaign_id(text) == text


@pytest.mark.parametrize("text", ["", "a" * 65, "Autumn", "a/b", "a\n", "-a", "é", "٣", ".."])
def test_bad_campaign_ids(text: str) -> None:
    """Nothing that a path or a tag could misread, a final line end included."""
    with pytest.raises(SettingsError, match=r"^campaign id: "):
        campaign_id(text)


# Secrets


@pytest.mark.parametrize("value", [None, "", "11" * 31, "11" * 33, "zz" * 32, "é"])
def test_a_bad_key_is_named_and_not_repeated(value: str | None) -> None:
    """The error says which variable and what it must hold."""
    secrets = Secrets({} if value is None else {"PIXELPROOF_LEDGER_KEY": value})
    with pytest.raises(SettingsError, match=r"^PIXELPROOF_LEDGER_KEY: .*64 hex digits") as refused:
        secrets.key("PIXELPROOF_LEDGER_KEY")
    assert not value or value not in str(refused.value)


def test_a_good_key_is_its_bytes() -> None:
    """64 hex digits."""
    assert Secrets({"K": "0f" * 32}).key("K") == b"\x0f" * 32


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1",
        "1:",
        f"one:{'33' * 64}",
        f"1:{'33' * 63}",
        "1:zz",
        f"0:{'33' * 64}",
        f"256:{'33' * 64}",
        "1:33:44",
        "11" * 64,
    ],
)
def test_bad_token_keys_are_named_and_not_repeated(value: str) -> None:
    """One message for all of it: version:key pairs."""
    with pytest.raises(SettingsError, match=r"^PIXELPROOF_TOKEN_KEYS: give version:key pairs") as refused:
        Secrets({"PIXELPROOF_TOKEN_KEYS": value}).tokens()
    assert "33" not in str(refused.value)
    assert "11" not in str(refused.value)


def test_good_token_keys_are_versioned() -> None:
    """Several pairs, blanks and a last comma: tokens of each version open."""
    ada = RecipientId(b"a" * 16)
    keys = f"1:{'33' * 64}, 2:{'44' * 64},"
    both = Secrets({"PIXELPROOF_TOKEN_KEYS": keys}).tokens()
    for version, byte in ((1, b"\x33"), (2, b"\x44")):
        assert both.open(Tokens({version: byte * 64}).make(ada, Use.PIXEL), Use.PIXEL) == ada


def test_the_environment_goes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``.env`` file beside the settings fills what the environment does not hold, and is not expanded."""
    monkeypatch.setenv("PIXELPROOF_A", "environment")
    monkeypatch.delenv("PIXELPROOF_B", raising=False)
    assert load_secrets(tmp_path).values["PIXELPROOF_A"] == "environment"
    (tmp_path / ".env").write_text("PIXELPROOF_A=file\nPIXELPROOF_B='$HOME ${PIXELPROOF_A}'\nPIXELPROOF_C=\n", "utf-8")
    values = load_secrets(tmp_path).values
    assert (values["PIXELPROOF_A"], values["PIXELPROOF_B"]) == ("environment", "$HOME ${PIXELPROOF_A}")
    assert "PIXELPROOF_C" not in values


def test_where_the_settings_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file that is given, else the variable's, else the usual name."""
    monkeypatch.delenv("PIXELPROOF_CONFIG", raising=False)
    assert settings_path() == Path("pixelproof.toml")
    monkeypatch.setenv("PIXELPROOF_CONFIG", str(tmp_path / "other.toml"))
    assert settings_path() == tmp_path / "other.toml"
    assert settings_path(tmp_path / "given.toml") == tmp_path / "given.toml"


# What is built of them


def test_services_are_built_of_settings_and_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over files beside the settings; a missing key is named when it is first needed."""
    file.write_text(GOOD, "utf-8")
    monkeypatch.setenv("PIXELPROOF_RECIPIENT_KEY", "22" * 32)
    monkeypatch.delenv("PIXELPROOF_LEDGER_KEY", raising=False)
    with Services.from_file(file) as services:
        assert len(services.recipient("ada@example.org")) == 16
        with pytest.raises(SettingsError, match="PIXELPROOF_LEDGER_KEY"):
            _ = services.store
        assert services.settings.sender == Sender(name="Example")
        assert (file.parent / "data" / LEDGER_FILE).exists()
