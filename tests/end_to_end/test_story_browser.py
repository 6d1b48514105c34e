"""The whole story as one person lives it, in Chromium: asked, agreed, opened, withdrawn, opened again.

The product and SendGrid's simulator are served over HTTP; the mails are made of the product's own snippets, sent by
its own campaigns, and opened in the browser as they lie in the inbox.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page

from cli.demo.files import add_secrets, write_settings
from cli.setup import fresh_keys
from connectors.simulators.base import Mail, utcnow
from connectors.simulators.sendgrid import SENDER, SendGridSimulator
from connectors.simulators.serving import listen, served, simulated, url_of
from core.intake import DROPPED, RECORDED
from core.ledger import parse
from core.model import Action, Campaign, CampaignId, CampaignKind, Mechanism, PurposeId
from tests.browser import PATIENCE, chromium, needs_chromium
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services

ADA, BOB = "ada@example.com", "bob@example.com"
PURPOSES = ("performance", "personalisation")
HOSTED, OWN = "hosted-news", "provider-news"
THUNDERBIRD = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Thunderbird/140.3.0"
"""A browser without a window says so, and would count as a machine."""

pytestmark = needs_chromium


@dataclass
class Stage:
    """The product, the ESP and the browser.

    Attributes:
        later: By how many seconds the ESP's clock is ahead. ESPs tell times to the second, and within one a second
            open of a mail could not be told from the first.
    """

    services: Services
    team: Team
    esp: SendGridSimulator
    url: str
    browser: Browser
    snippets: dict[str, str]
    later: list[int]

    def send(self, name: str, html: str, mechanism: Mechanism, *, asks: bool = False) -> dict[str, Mail]:
        """Apply and send a campaign whose mail is this; answers what lies in each inbox."""
        template = self.esp.add_template("News", html)
        campaign = Campaign(
            id=CampaignId(name),
            provider="sendgrid",
            kind=CampaignKind.REQUESTED,
            purposes=() if asks else tuple(map(PurposeId, PURPOSES)),
            mechanism=mechanism,
            asks=asks,
            content={"template_id": template, "from_email": SENDER, "from_name": "Marché des Lices"},
        )
        connector = self.services.connector("sendgrid")
        self.services.dispatch.apply(campaign, connector)
        self.services.release.send(campaign, connector)
        return {mail.address: mail for mail in self.esp.mailroom.page(name, 0)}

    def opened(self, mail: Mail) -> Page:
        """The mail as a browser shows it that has never seen anything before, with all its images fetched."""
        page = self.browser.new_context(locale="en", user_agent=THUNDERBIRD).new_page()
        page.set_default_timeout(PATIENCE)
        page.set_content(mail.html, wait_until="load")
        loaded = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"
        page.wait_for_function(loaded)
        return page

    def callbacks(self) -> None:
        """The ESP reports what has happened."""
        answer = httpx.post(f"{self.url}/_sim/flush", timeout=30).json()
        assert answer["failed"] == 0

    def opens(self, address: str, campaign: str) -> list[tuple[str, ...]]:
        """What somebody's opens on record may serve."""
        kept = self.services.people.record(self.services.recipient(address)).opens
        return [open_.serves for open_ in kept if open_.campaign == campaign]

    def counted(self, campaign: str, name: str) -> int:
        """One counter of a campaign."""
        return self.services.store.counters(f"campaign:{campaign}").get(name, 0)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Everything, served; two people in the address book who were never asked."""
    (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
    later = [0]
    esp = SendGridSimulator(now=lambda: utcnow() + timedelta(seconds=later[0]))
    with ExitStack() as stack:
        url, listener = stack.enter_context(simulated(esp)), listen()
        account = esp.account(purposes=PURPOSES, subject="", html="")
        esp.callback_url = f"{url_of(listener)}/webhooks/sendgrid"
        settings = write_settings(tmp_path, url_of(listener), {"sendgrid": account.settings})
        add_secrets(tmp_path, account.secrets)
        services = stack.enter_context(Services.from_file(settings))
        stack.enter_context(served(create_app(services), listener=listener))
        team = Team(services, url_of(listener))
        stack.callback(team.client.close)
        for address in (ADA, BOB):
            team.recipient(address)
        yield Stage(services, team, esp, url, stack.enter_context(chromium()), snippets(settings), later)


def snippets(settings: Path) -> dict[str, str]:
    """What ``pixelproof snippets`` writes for SendGrid."""
    words = ["snippets", "--provider", "sendgrid", "--campaign", HOSTED, "--config", str(settings), "--json"]
    command = [sys.executable, "-m", "cli", *words]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)  # noqa: S603 - our own command
    found: dict[str, Any] = json.loads(done.stdout)
    return dict(found["snippets"])


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something that takes a moment has happened."""
    deadline = time.monotonic() + PATIENCE / 1_000
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def choose(page: Page, *purposes: str) -> None:
    """Follow the mail's link, tick these purposes one by one and save them."""
    page.get_by_role("link").click()
    for purpose in purposes:
        use = page.locator("article", has=page.locator(f"#{purpose}"))
        use.locator("summary").click()
        use.get_by_role("checkbox").check()
    page.get_by_role("button", name="Save my choices").click()
    page.get_by_role("status").wait_for()


def test_asked_agreed_opened_withdrawn_and_opened_again(stage: Stage) -> None:
    """Nothing is read before the consent and nothing after the withdrawal, in the mail that lay there all along."""
    footer, pixel = stage.snippets["footer.html"], stage.snippets["pixel.html"]

    # The mail that asks carries no image at all, and opening it or its link is no answer.
    asking = stage.send("ask", stage.snippets["ask.html"], Mechanism.NONE, asks=True)
    for address in (ADA, BOB):
        mail = stage.opened(asking[address])
        assert mail.locator("img").count() == 0
        assert stage.team.state("performance", address) == "requested"
        choose(mail, *PURPOSES)
        assert [stage.team.state(p, address) for p in (*PURPOSES, "deliverability")] == ["given", "given", "refused"]
    (_asked, given, refused) = (parse(e.body) for e in stage.services.store.chain(stage.services.recipient(ADA)))
    assert (given.action, given.purposes, refused.action) == (Action.GIVEN, PURPOSES, Action.REFUSED)
    assert (given.notice, given.notice_language) == ("2026-11", "en")
    assert given.notice_sha256 is not None
    assert given.notice_build is not None

    # Two mailings: one with the hosted pixel, one with the ESP's own. Both are opened, and both opens recorded.
    hosted = stage.send(HOSTED, f"<h1>News</h1>{footer}{pixel}", Mechanism.HOSTED)
    own = stage.send(OWN, f"<h1>More news</h1>{footer}", Mechanism.PROVIDER)
    mail = stage.opened(hosted[ADA])
    stage.opened(own[ADA])
    stage.callbacks()
    for campaign in (HOSTED, OWN):
        eventually(lambda campaign=campaign: stage.opens(ADA, campaign) == [PURPOSES])  # type: ignore[misc]

    # The link at the foot of the mail, one button, nothing typed.
    mail.get_by_role("link").click()
    mail.get_by_role("button", name="Withdraw my consent").click()
    mail.get_by_text("You accept none of the uses below.").wait_for()
    assert [stage.team.state(purpose) for purpose in PURPOSES] == ["withdrawn"] * 2

    # The old mails once more, on a device that has never seen them: asked for, answered, and nothing kept.
    stage.later[0] += 2
    stage.opened(hosted[ADA])
    stage.opened(own[ADA])
    stage.callbacks()
    # Whatever waited to be written before this open is written by then.
    stage.opened(hosted[BOB])
    eventually(lambda: stage.opens(BOB, HOSTED) == [PURPOSES])
    assert stage.opens(ADA, HOSTED) == stage.opens(ADA, OWN) == [PURPOSES]
    assert stage.services.store.count_opens() == 3
    # Of the open that the ESP saw there is a number for the campaign, and no more.
    assert (stage.counted(OWN, RECORDED), stage.counted(OWN, DROPPED)) == (1, 1)
    assert (stage.counted(HOSTED, RECORDED), stage.counted(HOSTED, DROPPED)) == (2, 0)


def test_a_mail_program_that_prefetches_agrees_to_nothing(stage: Stage) -> None:
    """Whatever a scanner opens of the mail, links included, leaves the person where they were."""
    mail = stage.opened(stage.send("ask", stage.snippets["ask.html"], Mechanism.NONE, asks=True)[ADA])
    link = str(mail.get_by_role("link").get_attribute("href"))
    size = stage.services.store.sealed().size
    for path in ("", "/withdraw", "/receipt", "/record", "?saved=1&action=accept_all"):
        mail.request.get(f"{link}{path}")
        mail.request.head(f"{link}{path}")
    assert stage.services.store.sealed().size == size
    assert stage.team.state("performance") == "requested"
