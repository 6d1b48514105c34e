"""An installation that takes the callbacks of all ESPs, with a clock, and whoever signs as each of them does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cli.demo.files import add_secrets, write_settings
from connectors.simulators.serving import listen, served, simulated, url_of
from connectors.simulators.ses import SesSimulator
from core.settings import load, load_secrets
from tests.contract.ses_bench import Wire
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services
from webhooks.pixel_protocol import protocol

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
MAILCHIMP_SECRET = "a-secret-of-mailchimp-for-signing"
MANDRILL_KEY = "a-key-of-mandrill-for-signing"
SENDGRID_KEY = ec.derive_private_key(7, ec.SECP256R1())
SECRETS = {
    "SENDGRID_API_KEY": "SG." + "A" * 22 + "." + "B" * 43,
    "SENDGRID_WEBHOOK_PUBLIC_KEYS": base64.b64encode(
        SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode(),
    "MAILCHIMP_API_KEY": "0123456789abcdef0123456789abcdef-us6",
    "MAILCHIMP_WEBHOOK_SECRETS": MAILCHIMP_SECRET,
    "MANDRILL_WEBHOOK_KEYS": MANDRILL_KEY,
}
PROVIDERS = ("sendgrid", "mailchimp", "mandrill", "ses")
"""Mandrill's callbacks are mailchimp's to the settings."""


@dataclass(frozen=True)
class Signed:
    """A callback. ``proofs``: the headers that prove it."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    proofs: tuple[str, ...] = ()

    def but(self, **headers: str | None) -> Signed:
        """With other headers; None takes one away. Names with underscores."""
        changed = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        return replace(self, headers={name: value for name, value in changed.items() if value is not None})


class Desk(Team):
    """The installation. ``at``: the time."""

    def __init__(
        self, services: Services, url: str, simulator: SesSimulator, wire: Wire, clock: list[datetime]
    ) -> None:
        super().__init__(services, url)
        self.simulator = simulator
        self.wire = wire
        self._clock = clock

    @property
    def at(self) -> datetime:
        """The time."""
        return self._clock[0]

    def later(self, seconds: float) -> None:
        """Let time pass, or set it back."""
        self._clock[0] += timedelta(seconds=seconds)

    @property
    def entries(self) -> int:
        """How many entries the ledger has."""
        return self.services.store.sealed().size

    def post(self, signed: Signed) -> int:
        """Deliver a callback; answers the status, of an answer that says nothing."""
        answer = self.client.post(signed.path, content=signed.body, headers=dict(signed.headers))
        assert answer.content in {b"", b"Not Found"}
        return answer.status_code

    def complaint(self, provider: str, address: str) -> Signed:
        """A genuine complaint or unsubscription of somebody, as that ESP sends it now."""
        makers: dict[str, Callable[[str], Signed]] = {
            "sendgrid": self._sendgrid,
            "mailchimp": self._mailchimp,
            "mandrill": self._mandrill,
            "ses": self.ses,
        }
        return makers[provider](address)

    def _sendgrid(self, address: str) -> Signed:
        event = {"event": "spamreport", "email": address, "timestamp": self._now(-10), "sg_event_id": address}
        return by_sendgrid(json.dumps([event]).encode(), self._now())

    def _mailchimp(self, address: str) -> Signed:
        fired = f"{self.at - timedelta(seconds=10):%Y-%m-%d %H:%M:%S}"
        said = {"action": "unsub", "reason": "manual", "id": "1", "list_id": "a", "email": address}
        form = {"type": "unsubscribe", "fired_at": fired, **{f"data[{name}]": value for name, value in said.items()}}
        return by_mailchimp(urlencode(form).encode(), self._now())

    def _mandrill(self, address: str) -> Signed:
        events = [{"event": "spam", "ts": self._now(-10), "_id": address, "msg": {"email": address}}]
        return by_mandrill(json.dumps(events), f"{self.services.settings.base_url}/webhooks/mailchimp/transactional")

    def ses(self, address: str, kind: str = "Notification", **fields: str) -> Signed:
        """A complaint, or another message of SNS with these fields."""
        message = {
            "eventType": "Complaint",
            "mail": {"messageId": address, "destination": [address], "tags": {}},
            "complaint": {"timestamp": f"{self.at:%Y-%m-%dT%H:%M:%S.000Z}", "feedbackId": address},
        }
        sent = self.simulator.sns.signer.message(
            kind,
            self.simulator.topic.arn,
            fields or {"Subject": "Amazon SES Email Event Notification", "Message": json.dumps(message)},
            version="2",
            endpoint="",
            base_url=self.simulator.base_url,
        )
        return Signed("/webhooks/ses", sent.headers, sent.body, ("x-amz-sns-message-type",))

    def _now(self, plus: int = 0) -> int:
        return int(self.at.timestamp()) + plus


def by_sendgrid(body: bytes, at: int, key: ec.EllipticCurvePrivateKey = SENDGRID_KEY) -> Signed:
    """Signed as SendGrid does, at that time (epoch seconds)."""
    names = ("x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp")
    signature = base64.b64encode(key.sign(str(at).encode() + body, ec.ECDSA(SHA256()))).decode()
    return Signed("/webhooks/sendgrid", dict(zip(names, (signature, str(at)), strict=True)), body, names)


def by_mailchimp(body: bytes, at: int, secret: str = MAILCHIMP_SECRET) -> Signed:
    """Signed as Mailchimp does."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    headers = {"x-mailchimp-signature": f"t={at},v1={digest}", "content-type": "application/x-www-form-urlencoded"}
    return Signed("/webhooks/mailchimp", headers, body, ("x-mailchimp-signature",))


def by_mandrill(events: str, url: str, key: str = MANDRILL_KEY) -> Signed:
    """Signed as Mandrill does, for the address that was entered there."""
    signature = hmac.new(key.encode(), f"{url}mandrill_events{events}".encode(), hashlib.sha1).digest()
    headers = {
        "x-mandrill-signature": base64.b64encode(signature).decode(),
        "content-type": "application/x-www-form-urlencoded",
    }
    body = urlencode({"mandrill_events": events}).encode()
    return Signed("/webhooks/mailchimp/transactional", headers, body, ("x-mandrill-signature",))


@contextmanager
def desk(folder: Path, *, at_aws: bool = False) -> Iterator[Desk]:
    """Serve one. ``at_aws``: SNS's messages are believed by certificates of AWS, and not of the simulator."""
    clock = [START]
    simulator = SesSimulator(folder=folder, now=lambda: clock[0])
    simulator.app = wire = Wire(simulator.app)
    with simulated(simulator):
        account = simulator.account(purposes=("performance",), subject="", html="")
        listener = listen()
        ses = account.settings
        if at_aws:
            ses = {name: ses[name] for name in ("region", "topic_arns", "endpoint_url")}
        sections = {"sendgrid": {"api_url": "http://127.0.0.1:9"}, "mailchimp": {"list_id": "a1b2c3"}, "ses": ses}
        path = write_settings(folder, url_of(listener), sections)
        add_secrets(folder, {**SECRETS, **account.secrets})
        with Services(load(path), load_secrets(folder), folder, lambda: clock[0]) as services:
            app = create_app(services)
            with served(app, listener=listener, http=protocol(app.pixel)) as url:
                made = Desk(services, url, simulator, wire, clock)
                yield made
                made.client.close()
