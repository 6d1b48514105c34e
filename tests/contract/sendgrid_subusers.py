"""What the tests of the two subusers share: three accounts behind one address, and a connector to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.sendgrid.account import ByKey
from connectors.simulators.serving import served, simulated
from tests.contract.sendgrid_bench import Bench

SINGLE_SEND_HTML = '<p>News &amp; more</p>\n<a href="{{pixelproof_choices_url}}">Your choices</a>'
SENDER_ID, GROUP_ID = 41, 7


@dataclass
class Family:
    """The team's own account and its two subusers.

    Attributes:
        bench: The team's own account; its connector knows the subusers.
        tracked, untracked: The subusers.
        content: A campaign's ``content`` that goes through them.
    """

    bench: Bench
    tracked: SendGridSimulator
    untracked: SendGridSimulator
    content: dict[str, str]

    @property
    def subusers(self) -> tuple[SendGridSimulator, SendGridSimulator]:
        """Both."""
        return self.tracked, self.untracked

    def mails(self) -> dict[str, tuple[bool, str]]:
        """Every mail of the campaign by its recipient: whether it carries SendGrid's pixel, and its html."""
        rooms = [subuser.mailroom.page("news-1", 0) for subuser in self.subusers]
        mails = [mail for room in rooms for mail in room]
        assert len({mail.address for mail in mails}) == len(mails)
        return {mail.address: ("/open/" in mail.html, mail.html) for mail in mails}


@contextmanager
def family(wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> Iterator[Family]:
    """Three accounts; ``wrap`` stands between the connector and all of them."""
    own, tracked, untracked = SendGridSimulator(), SendGridSimulator(), SendGridSimulator()
    for subuser in (tracked, untracked):
        subuser.single_sends.sender_ids.add(SENDER_ID)
        subuser.settings.groups[GROUP_ID] = "News"
        subuser.settings.tracking["click"] = False
    untracked.settings.tracking["open"] = False
    apps = {each.api_key: each.app for each in (own, tracked, untracked)}
    with ExitStack() as stack:
        for each in (own, tracked, untracked):
            stack.enter_context(simulated(each))
        url = stack.enter_context(served(wrap(ByKey(apps))))
        account = own.account(purposes=[], subject="News", html=SINGLE_SEND_HTML)
        account.secrets["SENDGRID_API_KEY_TRACKED"] = tracked.api_key
        account.secrets["SENDGRID_API_KEY_UNTRACKED"] = untracked.api_key
        account.content.clear()
        bench = Bench(own, account, api_url=url, subusers={"tracked": "news-on", "untracked": "news-off"})
        numbers = dict.fromkeys(("sender_id_tracked", "sender_id_untracked"), str(SENDER_ID))
        numbers |= dict.fromkeys(("unsubscribe_group_id_tracked", "unsubscribe_group_id_untracked"), str(GROUP_ID))
        template = own.add_template("News", SINGLE_SEND_HTML)
        yield Family(bench, tracked, untracked, {"via": "subusers", "template_id": template, **numbers})
