"""User agents: families, machines and people, and nothing that could tell more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.machines import LONGEST, MACHINES, OTHER, PEOPLE, UNSAID, WHOLE, Client, client_of

PROXY = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
PREFETCH = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135"
    " Safari/537.36 Edge/12.246 Mozilla/5.0"
)
WEBKIT = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
ANDROID = "Mozilla/5.0 (Linux; Android 15; {}) AppleWebKit/537.36 (KHTML, like Gecko) {} Mobile Safari/537.36"
OUTLOOK = "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.1; Microsoft Outlook 16.0.9029; ms-office; MSOffice 16)"

MACHINE_AGENTS = {
    "Mozilla/5.0": "apple-mail-privacy",
    PROXY: "gmail-proxy",
    PREFETCH: "gmail-prefetch",
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html": "yahoo-proxy",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)": "microsoft-office",
    "Microsoft Office Existence Discovery": "microsoft-office",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b": "microsoft-preview",
    "Barracuda Sentinel (EE)": "barracuda",
    "Mimecast Ltd": "mimecast",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": "bot",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36": "headless",
    "curl/8.5.0": "http-library",
    "python-requests/2.31.0": "http-library",
    "Python/3.9 aiohttp/3.8.1": "http-library",
    "Go-http-client/2.0": "http-library",
}
PEOPLES_AGENTS = {
    OUTLOOK: "outlook",
    "Outlook-iOS/2.0": "outlook",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.0": "thunderbird",
    f"{WEBKIT} Mobile/15E148": "apple-mail",
    f"{WEBKIT} Version/18.0 Mobile/15E148 Safari/604.1": "safari",
    ANDROID.format("SM-S911B", "SamsungBrowser/27.0 Chrome/125.0.0.0"): "samsung-internet",
    ANDROID.format("CUBOT KINGKONG", "Chrome/125.0.0.0"): "chrome",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0": "firefox",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 Edg/120.0": "edge",
    "Something nobody knows": "other",
}


@pytest.mark.parametrize("agent", MACHINE_AGENTS)
def test_machines_are_known(agent: str) -> None:
    """Image proxies, prefetchers, scanners, robots and libraries; spaces and case make no difference."""
    assert client_of(agent) == client_of(f" {agent.upper()} ") == Client(MACHINE_AGENTS[agent], machine=True)


@pytest.mark.parametrize("agent", PEOPLES_AGENTS)
def test_people_are_not_taken_for_machines(agent: str) -> None:
    """Mail programs and browsers, and whatever is not known."""
    assert client_of(agent) == Client(PEOPLES_AGENTS[agent], machine=False)


def test_apples_agent_is_the_whole_of_it() -> None:
    """Every browser's begins with the same words."""
    assert client_of("Mozilla/5.0 (X11)").machine is False


@pytest.mark.parametrize("agent", ["", " ", "\t\n"])
def test_nothing_said_is_no_machine(agent: str) -> None:
    """Many ESPs do not pass the user agent on."""
    assert client_of(agent) == UNSAID == Client("", machine=False)


def test_only_the_beginning_counts() -> None:
    """What stands behind it is not looked at, however long it is."""
    assert client_of("x" * LONGEST + "curl/8") == OTHER
    assert client_of("x" * (LONGEST - 6) + "curl/8").machine is True
    assert client_of(("curl/8" * 12_000)[:65_536]).machine is True


FAMILIES = {*WHOLE.values(), *MACHINES.values(), *PEOPLE.values(), OTHER.family, UNSAID.family}


@given(st.text(max_size=3000) | st.text(alphabet=st.characters(categories=["Cs", "Lu", "Sm"])))
def test_any_text_has_a_family_from_the_tables(agent: str) -> None:
    """Surrogates, letters that grow when they are made small: never an error, never a piece of the text."""
    assert client_of(agent).family in FAMILIES


def test_families_tell_no_version() -> None:
    """Small letters and hyphens: fit for a counter's name and a report."""
    assert all(re.fullmatch(r"[a-z-]*", family) for family in FAMILIES)


@pytest.mark.parametrize("table", [WHOLE, MACHINES, PEOPLE], ids=["whole", "machines", "people"])
def test_signs_can_be_met(table: dict[str, str]) -> None:
    """Each is in lower case, as texts are compared, and none is hidden by an earlier one that it holds."""
    signs = list(table)
    assert [sign for sign in signs if sign != sign.lower()] == []
    if table is not WHOLE:
        hidden = [(a, b) for n, b in enumerate(signs) for a in signs[:n] if a in b and table[a] != table[b]]
        assert hidden == []
