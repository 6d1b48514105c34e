"""The snippets, put into a campaign at each ESP and sent: what arrives works, for each recipient with an own link."""

from __future__ import annotations

import html as markup
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from cli.demo.files import add_secrets, write_settings
from cli.setup import fresh_keys
from connectors import provider as provider_of
from connectors.simulators.base import Simulator
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import listen, served, simulated, url_of
from connectors.simulators.ses import SesSimulator
from core.ledger import Recording
from core.mail_check import MailKind, check_html
from core.merge_fields import MergeSyntax
from core.model import Action, Campaign, CampaignId, CampaignKind, ConsentEvent, Mechanism, PurposeId, RecipientId
from webhooks.app import create_app, page_settings
from webhooks.assembly import Services
from webhooks.pages import Pages
from webhooks.snippets import Kind, Sender, Snippets

NAMES = ("sendgrid", "mailchimp", "ses")
ADDRESSES = ("ada@example.com", "bob@example.com")
_LINK = re.compile(r'href="([^"]+)"')
_IMAGE = re.compile(r'<img[^>]*src="([^"]+)"')


@dataclass(frozen=True)
class Shop:
    """A team with one ESP, served."""

    services: Services
    simulator: Simulator
    url: str

    @property
    def name(self) -> str:
        """The ESP."""
        return self.simulator.name

    @property
    def syntax(self) -> MergeSyntax:
        """How its templates write fields."""
        return next(iter(provider_of(self.name).templates.values()))

    def snippets(self, campaign: str) -> Snippets:
        """The team's snippets in French."""
        settings = self.services.settings
        sender = Sender(settings.sender.name, settings.base_url, settings.sender.accent, campaign)
        return Snippets(sender, Pages(page_settings(self.services)).notice("fr"))

    def send(self, campaign: CampaignId, template: str, *, asks: bool) -> dict[str, str]:
        """Send a mail made of this template to everybody; answers the mails by address."""
        content = self.simulator.account(purposes=["performance"], subject="Choices", html=template).content
        mail = Campaign(
            id=campaign,
            provider=self.name,
            kind=CampaignKind.REQUESTED,
            purposes=() if asks else (PurposeId("performance"),),
            mechanism=Mechanism.NONE if asks else Mechanism.HOSTED,
            asks=asks,
            content=content,
        )
        connector = self.services.connector(self.name)
        self.services.segments.sync(self.name, connector)
        self.services.dispatch.apply(mail, connector, [self.services.recipient(a) for a in ADDRESSES])
        self.services.release.send(mail, connector)
        mails = httpx.get(f"{self.url}/_sim/mails", params={"after": 0, "limit": 10}).json()
        return {mail["to"]: mail["html"] for mail in mails}


@pytest.fixture(params=NAMES)
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """A team with this ESP, and two people in its address book, of whom one agreed."""
    name: str = request.param
    mails = tmp_path / "inboxes.sqlite3"
    simulator: Simulator
    if name == "ses":
        simulator = SesSimulator(mails=mails, folder=tmp_path)
    else:
        simulator = SendGridSimulator(mails=mails) if name == "sendgrid" else MailchimpSimulator(mails=mails)
    listener = listen()
    with simulated(simulator) as url:
        account = simulator.account(purposes=["performance"], subject="-", html="-")
        (tmp_path / ".env").write_text(fresh_keys(), "utf-8")
        settings = write_settings(tmp_path, url_of(listener), {name: account.settings})
        add_secrets(tmp_path, account.secrets)
        with Services.from_file(settings) as services, served(create_app(services), listener=listener):
            for address in ADDRESSES:
                services.book.put([(services.recipient(address), address, "fr")])
            say(services, services.recipient(ADDRESSES[0]))
            yield Shop(services, simulator, url)


def say(services: Services, recipient: RecipientId) -> None:
    """Have somebody agree to the measurement."""
    now = services.now()
    event = ConsentEvent(recipient, (PurposeId("performance"),), Action.GIVEN, now, now)
    services.ledger.record([Recording(event)])


def links(html: str, pattern: re.Pattern[str]) -> list[str]:
    """The addresses in a mail, as a mail program reads them."""
    return [markup.unescape(url) for url in pattern.findall(html)]


def test_the_asking_mail_brings_each_their_own_link(shop: Shop) -> None:
    """Who may be asked (nobody who has just answered) gets a pixel-free mail with the own link, which opens."""
    template = shop.snippets("ask").make(Kind.ASK, shop.syntax)["ask.html"]
    mails = shop.send(CampaignId("ask"), template, asks=True)
    assert mails.keys() == {ADDRESSES[1]}
    for address, html in mails.items():
        own = shop.services.links.choices_url(shop.services.recipient(address))
        assert own in links(html, _LINK)
        assert check_html(html, MailKind.ASKING) == []
        assert httpx.get(own).status_code == 200


def test_footer_and_pixel_reach_those_alone_who_agreed(shop: Shop) -> None:
    """Who agreed gets the own pixel, which records; the other gets none; both get the link."""
    maker = shop.snippets("news")
    pieces = maker.make(Kind.FOOTER, shop.syntax)["footer.html"] + maker.make(Kind.PIXEL, shop.syntax)["pixel.html"]
    template = f"<!doctype html><html><body><p>News</p>{pieces}</body></html>"
    mails = shop.send(CampaignId("news"), template, asks=False)
    agreed, other = ADDRESSES
    (pixel,) = links(mails[agreed], _IMAGE)
    path = shop.services.links.pixel_path(shop.services.recipient(agreed))
    assert pixel == f"{shop.services.settings.base_url}/{path}/news.gif"
    assert links(mails[other], _IMAGE) == []
    for address, html in mails.items():
        assert shop.services.links.choices_url(shop.services.recipient(address)) in links(html, _LINK)
    assert httpx.get(pixel).content.startswith(b"GIF89a")
