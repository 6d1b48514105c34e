"""The demo's story, and what is counted in it. Every number is read back from what happened, none from a plan."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from cli.demo.files import PURPOSES, write_consents
from cli.demo.mailings import Delivered, Mailings
from cli.demo.readers import ReadMail, choose, request_pixels
from cli.demo.stage import HOSTED, Stage
from connectors import provider
from core.consent import state_of
from core.intake import DROPPED
from core.model import TO_ASK, Mechanism, PurposeId, RecipientId, State
from core.ports import Capability
from core.segments import pages
from core.verify import verify

WAYS = ("page", "unsubscribe", "complaint")
ASKED = 5
"""Of a hundred people without a choice, how many use the link of the asking mail."""

TICK = 1.0
"""Seconds. ESPs tell times to the second: within one, a second open of a mail could not be told from the first."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Story:
    """Plays the story on a stage."""

    stage: Stage
    mailings: Mailings
    chance: random.Random
    tell: Tell

    def play(self, consents: Path, recipients: int) -> dict[str, object]:
        """The whole story; answers what was counted."""
        services, inboxes = self.stage.services, self.stage.inboxes
        self.tell("consents are imported, and some people answer on the choices page")
        imported = services.importer.record(write_consents(consents, recipients, self.chance))
        self._answer_on_the_page()
        result: dict[str, object] = {"recipients": imported.contacts, "consented": self.mailings.consented()}

        self.tell("segments are synchronised with three ESPs")
        self._sync()
        self.stage.flush()  # SES's topic asks for its subscription to be confirmed
        self.tell("a campaign goes out, and some people open it")
        first = {name: self.mailings.send(f"first-{name}", name) for name in inboxes}
        hosted = self.mailings.send(HOSTED, "sendgrid", Mechanism.HOSTED)
        self._collect()
        result["opens_recorded"] = self._opens()

        self.tell("people withdraw, then open their old mail once more")
        gone = self._withdraw([mail for delivered in first.values() for mail in delivered.kept])
        result["withdrawals"] = {way: self._now_withdrawn(mails) for way, mails in gone.items()}
        result |= self._open_again(gone, hosted)
        self.tell("forged and repeated callbacks arrive")
        forged = [each.order("forge") for each in inboxes.values()]
        result["forged_callbacks_sent"] = sum(answer["sent"] for answer in forged)
        result["forged_callbacks_accepted"] = sum(answer["accepted"] for answer in forged)
        result["replayed_callbacks_applied_twice"] = self._replay()

        self._sync()
        result["withdrawn_left_in_segments"] = self._left_in_segments(gone)

        self.tell("a second campaign goes out")
        without = {self._recipient(mail) for way in ("unsubscribe", "complaint") for mail in gone[way]}
        second = [self.mailings.send(f"second-{name}", name, without=without) for name in inboxes]
        result["second_campaign"] = _totals(second)

        self.tell("the ledger is verified")
        found = verify(services.store)
        result["ledger"] = {"entries": found.entries, "recipients": found.recipients, "ok": found.ok}
        result["hosted"] = _totals([hosted])
        result["pixels_in_untracked_mail"] = sum(one.stray for one in [*first.values(), hosted, *second])
        result["providers"] = {n: {**_totals([one]), "api_calls": inboxes[n].api_calls()} for n, one in first.items()}
        return result

    def _answer_on_the_page(self) -> None:
        """Some of those who have not chosen yet follow the asking mail's link and press a button."""
        services = self.stage.services
        with httpx.Client(timeout=60) as client:
            for page in pages(services.book):
                undecided = {row[0] for row in page} - services.store.heads([row[0] for row in page]).keys()
                for recipient in sorted(undecided):
                    if self.chance.random() * 100 < ASKED:
                        mail = ReadMail("", 0, "", (), services.links.choices_url(recipient))
                        choose(mail, self.chance.choice(("accept_all", "refuse_all")), client)

    def _sync(self) -> None:
        services = self.stage.services
        for name in services.configured:
            services.segments.sync(name, services.connector(name))

    def _collect(self) -> None:
        """Callbacks are sent; opens of an ESP without callbacks for them are fetched."""
        services = self.stage.services
        self.stage.flush()
        for name in self.stage.inboxes:
            campaign = f"first-{name}"
            if Capability.POLL_OPENS in provider(name).capabilities and services.mailings.campaign(campaign):
                services.polling.poll(services.connector(name), campaign)

    def _replay(self) -> int:
        """Every callback once more, byte for byte; how many entries and opens that added."""
        before = self._entries() + self._opens()
        for inboxes in self.stage.inboxes.values():
            inboxes.order("replay")
        return self._entries() + self._opens() - before

    def _withdraw(self, tracked: Sequence[ReadMail]) -> dict[str, list[ReadMail]]:
        """Tracked readers withdraw, each in one of the ways; answers who did it how."""
        gone = {way: list(tracked[place :: len(WAYS)]) for place, way in enumerate(WAYS)}
        with httpx.Client(timeout=60) as client:
            for mail in gone["page"]:
                choose(mail, "withdraw", client)
        for mail in gone["unsubscribe"]:
            self.stage.inboxes[mail.provider].act("unsubscribe", mail)
        for mail in gone["complaint"]:
            self.stage.inboxes[mail.provider].act("complain", mail)
        self._collect()
        return gone

    def _open_again(self, gone: Mapping[str, Sequence[ReadMail]], hosted: Delivered) -> dict[str, object]:
        """Withdrawn readers open their old mail again: how often that reached us, and how often it was recorded."""
        before, dropped = self._opens(), self._dropped()
        withdrawn = [mail for mails in gone.values() for mail in mails]
        time.sleep(TICK)
        request_pixels(withdrawn)
        whose = {mail.address for mail in withdrawn}
        asked = request_pixels([mail for mail in hosted.kept if mail.address in whose])
        self._collect()
        return {
            "opens_after_withdrawal_seen": self._dropped() - dropped + asked,
            "opens_after_withdrawal_recorded": self._opens() - before,
        }

    def _left_in_segments(self, gone: Mapping[str, Sequence[ReadMail]]) -> int:
        """How many of the withdrawn an ESP still holds in a consent segment, by what it says itself."""
        services = self.stage.services
        withdrawn = {self._recipient(mail) for mails in gone.values() for mail in mails}
        members = (member for name in services.configured for member in services.connector(name).read_back())
        return sum(
            1 for member in members if member.purposes - {TO_ASK} and services.recipient(member.address) in withdrawn
        )

    def _now_withdrawn(self, mails: Sequence[ReadMail]) -> int:
        services = self.stage.services
        heads, now = services.store.heads([self._recipient(mail) for mail in mails]), services.now()
        asked = [PurposeId(purpose) for purpose in PURPOSES]
        return sum(
            all(state_of(head.standings, p, now, services.policy) is State.WITHDRAWN for p in asked)
            for head in heads.values()
        )

    def _recipient(self, mail: ReadMail) -> RecipientId:
        return self.stage.services.recipient(mail.address)

    def _entries(self) -> int:
        return self.stage.services.store.sealed().size

    def _opens(self) -> int:
        return self.stage.services.store.count_opens()

    def _dropped(self) -> int:
        names = [*(f"first-{name}" for name in self.stage.inboxes), HOSTED]
        return sum(self.stage.services.store.counters(f"campaign:{name}").get(DROPPED, 0) for name in names)


def _totals(delivered: Sequence[Delivered]) -> dict[str, int]:
    return {"tracked": sum(d.tracked for d in delivered), "untracked": sum(d.untracked for d in delivered)}
