"""The demo's stage: three simulated ESPs and the product itself, each served over HTTP on this machine."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cli.demo.files import PURPOSES, add_secrets, fresh_folder, write_settings
from cli.demo.readers import Inboxes
from connectors.simulators.base import Simulator
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import listen, served, simulated, url_of
from connectors.simulators.ses import SesSimulator
from core.model import Campaign, CampaignId, CampaignKind, Mechanism, PurposeId
from webhooks.app import Application, create_app
from webhooks.assembly import Services
from webhooks.pixel_protocol import protocol

HOSTED = "hosted-digest"
SUBJECT = "What is in season this week"
_MAIL = """<!doctype html>
<html lang="en"><body><h1>{subject}</h1>
<p>Asparagus, the first strawberries, and a recipe for both.</p>
<p><a href="[[choices_url]]">Your choices about open tracking</a></p>
{hosted}</body></html>
"""
_HOSTED_PIXEL = '[[if_pixel]]<img src="{base}/[[pixel_path]]/{campaign}.gif" width="1" height="1" alt="">[[end_if]]'


@dataclass(frozen=True)
class Stage:
    """Everything that plays a part.

    Attributes:
        contents: Each ESP's own names of the mail's template and sender; under ``HOSTED`` those of the mail that
            shows the hosted image.
        app: The product's application, as it is served.
    """

    services: Services
    simulators: Mapping[str, Simulator]
    inboxes: Mapping[str, Inboxes]
    contents: Mapping[str, Mapping[str, str]]
    app: Application

    def campaign(self, name: str, provider: str, mechanism: Mechanism = Mechanism.PROVIDER) -> Campaign:
        """A mailing that wants to measure its performance."""
        return Campaign(
            id=CampaignId(name),
            provider=provider,
            kind=CampaignKind.PROSPECTING,
            purposes=(PurposeId("performance"),),
            mechanism=mechanism,
            content=self.contents[HOSTED if mechanism is Mechanism.HOSTED else provider],
        )

    def flush(self) -> None:
        """Have every ESP send the callbacks that wait, and the hosted pixel write the opens that do."""
        for inboxes in self.inboxes.values():
            inboxes.order("flush")
        self.app.opens.settle()


@contextmanager
def staged(folder: Path, chance: random.Random) -> Iterator[Stage]:
    """Set everything up in ``folder`` and serve it; take it down afterwards."""
    fresh_folder(folder, chance)
    with ExitStack() as stack:
        simulators = _simulators(folder)
        urls = {sim.name: stack.enter_context(simulated(sim)) for sim in simulators}
        listener = listen()
        base_url = url_of(listener)
        accounts = {sim.name: sim.account(purposes=PURPOSES, subject=SUBJECT, html=_mail()) for sim in simulators}
        pixel = _HOSTED_PIXEL.format(base=base_url, campaign=HOSTED)
        hosted = simulators[0].account(purposes=PURPOSES, subject=SUBJECT, html=_mail(pixel))
        settings = write_settings(folder, base_url, {name: account.settings for name, account in accounts.items()})
        for account in accounts.values():
            add_secrets(folder, account.secrets)
        services = stack.enter_context(Services.from_file(settings))
        app = create_app(services)
        stack.enter_context(served(app, listener=listener, http=protocol(app.pixel)))
        inboxes = {name: Inboxes(name, url) for name, url in urls.items()}
        for each in inboxes.values():
            stack.callback(each.close)
        _install_callbacks(simulators, base_url)
        contents = {name: account.content for name, account in accounts.items()} | {HOSTED: hosted.content}
        yield Stage(services, {sim.name: sim for sim in simulators}, inboxes, contents, app)


def _simulators(folder: Path) -> Sequence[Simulator]:
    return (
        SendGridSimulator(mails=folder / "sendgrid-inboxes.sqlite3"),
        MailchimpSimulator(mails=folder / "mailchimp-inboxes.sqlite3"),
        SesSimulator(mails=folder / "ses-inboxes.sqlite3", folder=folder),
    )


def _mail(hosted: str = "") -> str:
    """The mail, with the place for the hosted pixel where it has one."""
    return _MAIL.format(subject=SUBJECT, hosted=hosted)


def _install_callbacks(simulators: Sequence[Simulator], base_url: str) -> None:
    for simulator in simulators:
        simulator.callback_url = f"{base_url}/webhooks/{simulator.name}"
        if isinstance(simulator, SesSimulator):
            simulator.subscribe()
