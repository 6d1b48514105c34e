"""`dossier`, `report`, `purge` and `erase` as a team types them, after a campaign and a withdrawal at an ESP."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from html import unescape
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from cli.demo.files import add_secrets, write_settings
from cli.main import run
from cli.wording import catalogues
from connectors.simulators.base import Simulator
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import listen, served, simulated, url_of
from core.checkpoints import KEYS
from core.stores.embedded import LOG, SNAPSHOTS
from tests.axe import violations, with_axe
from tests.browser import SCHEMES, chromium, needs_chromium, screenshot, sideways
from tests.paper_texts import Texts
from webhooks.app import create_app
from webhooks.assembly import Services

ADDRESS = "zoé@example.com"
ROWS = f"""address,purposes,action,occurred_at
{ADDRESS},,,
bob@example.com,performance,given,2026-01-01T00:00:00Z
"""
HTML = '<p>News</p><a href="[[choices_url]]">Your choices</a>'
Command = Callable[..., dict[str, Any]]


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with --json, answers its object, and sees to it that nothing else was said about anybody."""

    def call(*words: str, code: int = 0) -> dict[str, Any]:
        capsys.readouterr()  # what the served application logged before
        with pytest.raises(SystemExit) as ended:
            run([*words, "--config", str(folder / "pixelproof.toml"), "--json"])
        told = capsys.readouterr()
        assert (ended.value.code or 0) == code, told.err
        assert "example.com" not in told.err
        result: dict[str, Any] = json.loads(told.out)
        return result

    return call


@pytest.fixture
def esp(folder: Path, command: Command) -> Iterator[Simulator]:
    """Somebody agreed on the choices page, got a tracked mail, and withdrew; the ESP was told by the sync."""
    listener, simulator = listen(), SendGridSimulator()
    with simulated(simulator):
        account = simulator.account(purposes=("performance",), subject="News", html=HTML)
        write_settings(folder, url_of(listener), {simulator.name: account.settings})
        add_secrets(folder, account.secrets)
        (folder / "consents.csv").write_text(ROWS, "utf-8")
        command("import", str(folder / "consents.csv"))
        content = "\n".join(f"{key} = {json.dumps(value)}" for key, value in account.content.items())
        file = folder / "news.toml"
        file.write_text(
            'id = "news"\nprovider = "sendgrid"\nkind = "prospecting"\npurposes = ["performance"]\n'
            f"[content]\n{content}\n",
            "utf-8",
        )
        with (
            Services.from_file(folder / "pixelproof.toml") as services,
            served(create_app(services), listener=listener),
        ):
            link = services.links.choices_url(services.recipient(ADDRESS))
            page = httpx.get(f"{link}?lang=fr").text
            assert httpx.post(link, data={**_hidden(page), "action": "accept_all"}).status_code == 303
        _say(folder, link, command)
        yield simulator


def _hidden(page: str) -> dict[str, str]:
    """The hidden fields of the page's first form."""
    form = re.findall(r"<form.*?</form>", page, re.DOTALL)[0]
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form)
    return {name: unescape(value) for name, value in fields}


def _say(folder: Path, link: str, command: Command) -> None:
    """Send the campaign, withdraw by the mail's one-click link, and sync."""
    command("sync")
    command("campaigns", "apply", str(folder / "news.toml"))
    command("campaigns", "send", str(folder / "news.toml"))
    with Services.from_file(folder / "pixelproof.toml") as services, served(create_app(services)) as url:
        path = link.removeprefix(services.settings.base_url)
        httpx.post(f"{url}{path}/withdraw", data={"List-Unsubscribe": "One-Click"}).raise_for_status()
    command("sync")


def modes(folder: Path) -> set[int]:
    """The modes of everything in a folder, and its own."""
    return {path.stat().st_mode & 0o777 for path in [folder, *folder.rglob("*")] if path.is_dir() or path.is_file()}


@pytest.mark.usefixtures("esp")
def test_a_dossier_tells_the_whole_story(command: Command, folder: Path) -> None:
    """What was shown, said, sent and ended; every file private, every hash right, and the ledger none the longer."""
    before = command("ledger", "verify")
    told = command("dossier", ADDRESS, "--out", str(folder / "zoe"))
    out = folder / "zoe"
    assert {*told["files"]} == {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert modes(out) == {0o700, 0o600}
    for line in (out / "SHA256SUMS").read_text("utf-8").splitlines():
        digest, name = line.split("  ")
        assert sha256((out / name).read_bytes()).hexdigest() == digest
    dossier = json.loads((out / "dossier.json").read_text("utf-8"))
    assert [e["action"] for e in dossier["record"]["entries"]][:1] == ["given"]
    (notice,) = (out / "notices").iterdir()
    assert notice.stem == sha256(notice.read_bytes()).hexdigest() == dossier["shown"][0]["sha256"]
    for file in sorted((out / "receipts").iterdir()):
        receipt = json.loads(file.read_text("utf-8"))
        assert sha256(b"\0" + receipt["entry"].encode()).hexdigest() == receipt["entry_hash"]
    (reached,) = dossier["ended"][-1]["providers"]
    assert (reached["provider"], reached["progress"]) == ("sendgrid", "taken_out")
    assert 0 <= reached["seconds"] < 600
    page = (out / "dossier.html").read_text("utf-8")
    assert unescape(page).count(ADDRESS) >= 2
    assert "a pixel of their own" in page
    assert (out / "dossier.pdf").read_bytes().startswith(b"%PDF-")
    assert command("ledger", "verify") == before


@pytest.mark.usefixtures("esp")
def test_a_dossier_names_the_snapshot_that_is_there(command: Command, folder: Path) -> None:
    """The digest of each campaign is that of its Parquet file."""
    command("dossier", ADDRESS, "--out", str(folder / "zoe"))
    with (folder / "zoe" / "campaigns.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["campaign"], row["pixel"], row["basis"]) == ("news", "individual", "consent")
    digests = {sha256(f.read_bytes()).hexdigest() for f in (folder / "data" / SNAPSHOTS).iterdir()}
    assert row["snapshot_sha256"] in digests


@pytest.mark.usefixtures("esp")
def test_a_dossier_overwrites_nothing_and_can_be_run_again(command: Command, folder: Path) -> None:
    """A folder that holds something stays as it is; what an interrupted run left is replaced; an unknown is unknown."""
    out = folder / "zoe"
    out.mkdir()
    (out / "mine").write_text("mine", "utf-8")
    assert "--out" in command("dossier", ADDRESS, "--out", str(out), code=2)["error"]
    assert [file.name for file in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    left = folder / ".zoe.dossier-part"
    left.mkdir()
    (left / "dossier.html").write_text("half", "utf-8")
    command("dossier", ADDRESS, "--out", str(out))
    assert not left.exists()
    assert "half" not in (out / "dossier.html").read_text("utf-8")
    unknown = command("dossier", "nobody@example.com", "--out", str(folder / "nobody"), code=1)
    assert not unknown["known"]
    assert not (folder / "nobody").exists()


@pytest.mark.usefixtures("esp")
def test_a_report_needs_nothing_but_itself(command: Command, folder: Path) -> None:
    """One file without scripts and without anything from elsewhere; it names nobody."""
    out = folder / "report.html"
    told = command("report", "--out", str(out), "--period", "2026-01..2030-12")
    page = out.read_text("utf-8")
    assert told["entries"] == command("ledger", "verify")["entries"]
    assert not re.search(r"<script|<link|<img|<iframe|src=|https?://(?!127\.0\.0\.1|www\.w3\.org)|@import|url\(", page)
    assert "example.com" not in page
    for title in ("Consent rates", "Withdrawals", "Incidents", "partners", "Settings at fault", "Register", "Rules"):
        assert re.search(f"<h2[^>]*>[^<]*{title}", page), title
    assert "Twilio SendGrid" in page
    assert "cnil-2025-draft" in page
    assert "news" in page


@pytest.mark.usefixtures("esp")
def test_a_report_asks_the_esps_only_when_told(command: Command, folder: Path, esp: Simulator) -> None:
    """Without --with-doctor no ESP hears of it; with it, what is wrong there stands in the page."""
    before = esp.calls
    command("report", "--out", str(folder / "one.html"))
    assert esp.calls == before
    assert command("report", "--out", str(folder / "two.html"), "--with-doctor")["findings"] >= 1
    assert esp.calls > before


@pytest.mark.usefixtures("esp")
def test_a_report_tells_how_much_is_covered_by_checkpoints(command: Command, folder: Path) -> None:
    """Without a key nothing is, and with one before the first; then all, until more is written."""

    def covered() -> str:
        command("report", "--out", str(folder / "report.html"))
        page = (folder / "report.html").read_text("utf-8")
        found = re.search("<dt>Covered by checkpoints</dt><dd>(.*?)</dd>", page)
        assert found is not None
        return found[1]

    keys = folder / ".env"
    with_key = keys.read_text("utf-8")
    without = "".join(line for line in with_key.splitlines(keepends=True) if not line.startswith(KEYS))
    keys.write_text(without, "utf-8")
    assert covered() == "nothing: no key signs checkpoints"
    shutil.rmtree(folder / "data" / LOG, ignore_errors=True)  # as if no key had ever been there
    keys.write_text(f"{without}{KEYS}=log.example.org:1:{'44' * 32}\n", "utf-8")
    assert covered() == "nothing: no checkpoint was signed yet"
    with Services.from_file(folder / "pixelproof.toml") as services:
        assert services.notary is not None
        services.notary.cover()
        size = services.store.size()
    assert covered() == f"{size} of {size} entries (100.0%)"
    (folder / "more.csv").write_text("address,action\nnew@example.com,refused\n", "utf-8")
    command("import", str(folder / "more.csv"))
    assert covered().startswith(f"{size} of {size + 1} entries (")


@pytest.mark.usefixtures("esp")
def test_a_wrong_period_changes_nothing(command: Command, folder: Path) -> None:
    """The page of before stays."""
    (folder / "report.html").write_text("before", "utf-8")
    error = command("report", "--out", str(folder / "report.html"), "--period", "autumn", code=2)["error"]
    assert "--period" in error
    assert (folder / "report.html").read_text("utf-8") == "before"
    assert "--out" in command("report", "--out", str(folder / "nowhere" / "report.html"), code=2)["error"]


@pytest.mark.usefixtures("esp")
def test_purge_deletes_by_age_and_says_so(command: Command, folder: Path) -> None:
    """Nothing is old enough yet, and a dry run is on no record; the report tells when it was last done."""
    dry = command("purge", "--dry-run")
    assert (dry["dry_run"], dry["last"]) == (True, None)
    assert {each["deleted"] for each in dry["kinds"].values()} == {0}
    assert command("purge")["last"] is not None
    command("report", "--out", str(folder / "report.html"))
    assert "Everything was last purged" in (folder / "report.html").read_text("utf-8")
    assert command("ledger", "verify")["ok"]


@pytest.mark.usefixtures("esp")
def test_erase_tells_what_remains_and_why(command: Command) -> None:
    """The nameless entries, the snapshots, and when the ESP followed; the ledger verifies."""
    done = command("erase", ADDRESS)
    assert done["complete"]
    remains = {each["what"]: each["number"] for each in done["remains"]}
    assert remains["ledger entries"] >= 2
    assert remains["rows of campaigns' snapshots"] == 1
    assert remains["times at which an ESP followed a withdrawal"] >= 1
    assert all(each["why"] for each in done["remains"])
    assert command("ledger", "verify")["ok"]


@pytest.mark.usefixtures("esp")
def test_proofs_are_erased_when_that_is_meant(command: Command, folder: Path) -> None:
    """Not without --yes, which changes nothing; with it nothing but hashes is left, and everything goes on working."""
    error = command("erase", ADDRESS, "--proofs", code=2)["error"]
    assert "say --yes" in error
    assert command("status", ADDRESS)["purposes"]["performance"]["source"] != "erasure"
    before = command("ledger", "verify")
    done = command("erase", ADDRESS, "--proofs", "--yes")
    assert (done["complete"], done["proofs"]) == (True, 2)
    remains = {each["what"]: each["number"] for each in done["remains"]}
    assert "ledger entries" not in remains
    assert remains["hashes of erased ledger entries"] == 2
    found = command("ledger", "verify")
    assert (found["ok"], found["erased"], found["entries"]) == (True, 2, before["entries"] + 1)
    assert command("status", ADDRESS)["purposes"]["performance"]["state"] == "withdrawn"
    command("sync")
    command("dossier", ADDRESS, "--out", str(folder / "zoe"))
    told = json.loads((folder / "zoe" / "dossier.json").read_text("utf-8"))
    assert [each["source"] for each in told["record"]["entries"]] == ["erasure"]
    command("report", "--out", str(folder / "report.html"))
    assert command("erase", ADDRESS, "--proofs", "--yes")["proofs"] == 0


# In French


def _papers(command: Command, folder: Path, language: str) -> list[str]:
    """Both pages in a language, as HTML."""
    report, out = folder / f"{language}.html", folder / f"zoe-{language}"
    command("report", "--out", str(report), "--period", "2026-01..2030-12", "--with-doctor", "--language", language)
    command("dossier", ADDRESS, "--out", str(out), "--language", language)
    return [report.read_text("utf-8"), (out / "dossier.html").read_text("utf-8")]


@pytest.mark.usefixtures("esp")
def test_a_french_page_says_nothing_in_english(command: Command, folder: Path) -> None:
    """Alike in both languages are names, ids, commands and what settings say; findings are English, and marked so."""
    french, settings = catalogues()["fr"], (folder / "pixelproof.toml").read_text("utf-8")
    for english_page, french_page in zip(*(_papers(command, folder, name) for name in ("en", "fr")), strict=True):
        english, other = Texts(english_page), Texts(french_page)
        assert (english.language, other.language) == ("en", "fr")
        told = {*other.found, *other.labels}
        assert [text for text in told if french.get(text, text) != text] == []
        alike = told & {*english.found, *english.labels}
        sentences = {text for text in alike if re.search(r"[a-z]{2,}[ :;]+[a-z]{2,}", text) and not _command(text)}
        assert {text for text in sentences if text not in settings} == set()
    assert '<td lang="en">' in (folder / "fr.html").read_text("utf-8")


def _command(text: str) -> bool:
    return text.startswith(("sha256sum", "pixelproof", "(printf"))


@pytest.mark.usefixtures("esp")
def test_the_language_is_the_settings_unless_it_is_named(command: Command, folder: Path) -> None:
    """A page goes by default_language; JSON and CSV are the same in both; what there is not is refused."""
    english, french = folder / "zoe-en", folder / "zoe-fr"
    _papers(command, folder, "en")
    settings = folder / "pixelproof.toml"
    text = re.sub(r"(?m)^default_language.*\n", "", settings.read_text("utf-8"))
    settings.write_text(f'default_language = "fr"\n{text}', "utf-8")
    command("dossier", ADDRESS, "--out", str(french))
    command("report", "--out", str(folder / "report.html"))
    for page in (french / "dossier.html", folder / "report.html"):
        assert '<html lang="fr">' in page.read_text("utf-8")
    assert (english / "campaigns.csv").read_bytes() == (french / "campaigns.csv").read_bytes()
    one, other = (json.loads((out / "dossier.json").read_text("utf-8")) for out in (english, french))
    assert {**one["record"], "as_of": ""} == {**other["record"], "as_of": ""}
    error = command("report", "--out", str(folder / "no.html"), "--language", "xx", code=2)["error"]
    assert error == "--language: there are en, fr"
    assert not (folder / "no.html").exists()


@needs_chromium
@with_axe
@pytest.mark.usefixtures("esp")
def test_axe_finds_nothing_on_the_french_pages(command: Command, folder: Path, browser: Browser) -> None:
    """French words are longer: nothing sticks out sideways, narrow or wide."""
    _papers(command, folder, "fr")
    for file in (folder / "fr.html", folder / "zoe-fr" / "dossier.html"):
        with browser.new_context(bypass_csp=True) as context:
            page = context.new_page()
            page.goto(file.as_uri())
            for width in (320, 1280):
                page.set_viewport_size({"width": width, "height": 900})
                assert (sideways(page), violations(page)) == ([], [])


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with chromium() as browser:
        yield browser


@needs_chromium
@pytest.mark.usefixtures("esp")
def test_the_pages_can_be_read_on_a_phone_and_printed(command: Command, folder: Path, browser: Browser) -> None:
    """Nothing sticks out sideways, everything has a name, and each prints."""
    command("report", "--out", str(folder / "report.html"), "--period", "2026-01..2030-12")
    command("dossier", ADDRESS, "--out", str(folder / "zoe"))
    for file in (folder / "report.html", folder / "zoe" / "dossier.html"):
        _look(browser, file)


@needs_chromium
@with_axe
@pytest.mark.usefixtures("esp")
def test_axe_finds_nothing_on_the_pages(command: Command, folder: Path, browser: Browser) -> None:
    """Narrow and wide, light and dark; nothing is wider than the window, and dark is dark."""
    command("report", "--out", str(folder / "report.html"), "--period", "2026-01..2030-12")
    command("dossier", ADDRESS, "--out", str(folder / "zoe"))
    for file, scheme in product((folder / "report.html", folder / "zoe" / "dossier.html"), SCHEMES):
        with browser.new_context(bypass_csp=True, color_scheme=scheme) as context:
            page = context.new_page()
            page.goto(file.as_uri())
            for width in (320, 1280):
                page.set_viewport_size({"width": width, "height": 900})
                screenshot(page, f"{file.stem}-{width}-{scheme}")
                assert (sideways(page), violations(page)) == ([], [])
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (ground == "rgb(255, 255, 255)") is (scheme == "light")
            page.emulate_media(media="print")
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def _look(browser: Browser, file: Path) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), file.name
    assert page.locator("svg:not([aria-label])").count() == 0
    assert page.locator("table:not(:has(caption))").count() == 0
    assert asked == [file.as_uri()]
    assert page.pdf().startswith(b"%PDF-")
    page.close()
