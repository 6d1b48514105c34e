"""Makes ``calls/<provider>.json``: a connector's calls and their answers, recorded against the provider's simulator.

Run it as ``python -m tests.vectors.make_calls`` after a change of what a connector asks; read the difference before it
is kept. No live account was there to record: what a simulator answers has the form of the provider's own document,
which contract tests hold it against.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from connectors.simulators.base import Simulator
from connectors.simulators.mailchimp import MailchimpSimulator
from connectors.simulators.sendgrid import SendGridSimulator
from connectors.simulators.serving import served
from connectors.simulators.ses import SesSimulator
from tests.contract.tape import Tape, connector, story

KEYS = {"MAILCHIMP_API_KEY": "recorded-us1"}
"""In place of the real keys, which no tape shows: whoever plays it asks for none."""
CALLBACKS_ONLY = frozenset({"sns_authority_file", "sns_certificate_origin"})
"""Settings of the recording machine that no call needs."""
HTML = '<p>News</p><a href="[[choices_url]]">Your choices</a>'


def record(simulator: Simulator) -> None:
    """Record one provider."""
    tape = Tape(simulator.app)
    with served(tape) as url:
        tape.base = simulator.base_url = url
        account = simulator.account(purposes=["performance"], subject="News", html=HTML)
        came_to = story(simulator.name, connector(simulator.name, account.settings, account.secrets), account.content)
    kept = {
        "settings": {name: value for name, value in account.settings.items() if name not in CALLBACKS_ONLY},
        "secrets": {name: KEYS.get(name, "recorded") for name in account.secrets},
        "content": account.content,
        "comes_to": came_to,
        "exchanges": tape.exchanges,
    }
    text = json.dumps(kept, indent=1, ensure_ascii=False).replace(url, "{base}")
    (Path(__file__).parent / "calls" / f"{simulator.name}.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for each in (SendGridSimulator(), MailchimpSimulator(), SesSimulator(folder=Path(folder))):
            record(each)
