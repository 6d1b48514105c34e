"""Mailchimp's audience webhooks, inbound: proven, then read. No I/O and no SDK.

Callbacks of Mailchimp Transactional arrive at the same address and are left to ``connectors.mailchimp.transactional``.

Sources: Mailchimp's guide "Sync audience data with webhooks" and its page on webhooks in the Marketing API. Its
documents spell out the fields of ``subscribe`` and ``unsubscribe`` alone; those of the other types are unconfirmed.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import parse_qsl

from connectors.mailchimp import transactional
from connectors.mailchimp.interests import TELLING, absent
from connectors.mailchimp.settings import NAME, WebhookKeys
from core.errors import PayloadError, VerificationError
from core.model import EventKind, ProviderEvent, VerifiedBody, WebhookRequest

KINDS: Mapping[tuple[str, str], EventKind] = {
    ("subscribe", ""): EventKind.RESUBSCRIBE,
    ("unsubscribe", ""): EventKind.UNSUBSCRIBE,
    ("unsubscribe", "abuse"): EventKind.COMPLAINT,
    ("cleaned", ""): EventKind.BOUNCE,
    ("cleaned", "abuse"): EventKind.COMPLAINT,
    ("upemail", ""): EventKind.ADDRESS_CHANGE,
    ("profile", ""): EventKind.OTHER,
    ("campaign", ""): EventKind.OTHER,
}
"""What Mailchimp's types mean, by ``type`` and ``data[reason]``; a reason that is not listed changes nothing."""

PATH = "/webhooks/mailchimp/"
"""Where webhooks that are not signed are received; their path secret follows it."""
LONGEST_DELAY = timedelta(minutes=90)
"""How long after it happened an event may be signed: Mailchimp's retries last for 75 minutes, and a margin."""
MOST_FIELDS = 1_000
"""Form fields of one callback; an audience has 80 merge fields at most."""

_ADDRESS_FIELD = {EventKind.ADDRESS_CHANGE: "data[old_email]"}
_WITHOUT_ADDRESS = frozenset({EventKind.OTHER, EventKind.UNKNOWN})
_IDENTITY = (
    "type",
    "fired_at",
    "data[list_id]",
    "data[id]",
    "data[new_id]",
    "data[email]",
    "data[old_email]",
    "data[new_email]",
    "data[action]",
    "data[reason]",
)
"""What tells one event from another: Mailchimp numbers neither events nor deliveries."""

_SIGNATURE = re.compile(r"\s*t=([0-9]{1,12})\s*,\s*v1=([0-9a-fA-F]{64})\s*")


class MailchimpCodec:
    """Implements ``core.ports.WebhookCodec``.

    A signed request is proven by its signature (``X-Mailchimp-Signature: t=<unix>,v1=<hex>``, HMAC-SHA256 over
    ``<t>.<raw body>``). Webhooks that were created before Mailchimp signed are proven by the secret in their path.

    Args:
        keys: Signing secrets, whichever fits proves the request; and the last parts of the paths of unsigned
            webhooks, without any of which all that is not signed is refused.
        age: How old a signature may be, and how far ahead of our clock.
        interests: Those that the settings map to purposes.
        mandrill: Proves what Mailchimp Transactional signed.
    """

    def __init__(
        self,
        keys: WebhookKeys,
        *,
        age: tuple[timedelta, timedelta],
        interests: Sequence[str],
        mandrill: transactional.Transactional,
    ) -> None:
        self._secrets = tuple(secret.encode() for secret in keys.signing)
        self._paths = tuple(f"{PATH}{path}".encode() for path in keys.paths)
        self._oldest, self._newest = age
        self._interests = tuple(interests)
        self._mandrill = mandrill

    def verify(self, request: WebhookRequest, *, now: datetime) -> VerifiedBody:
        """Prove that Mailchimp sent this, and recently. Raises VerificationError and nothing else.

        With a signing secret configured, whatever carries a signature is judged by it alone; what carries Mandrill's,
        by Mandrill's keys alone.
        """
        if transactional.SIGNATURE_HEADER in request.headers:
            return self._mandrill.verify(request)
        header = request.headers.get("x-mailchimp-signature")
        if header is not None and self._secrets:
            return VerifiedBody(request.body, self._signed_at(header, request.body, now))
        if not self._paths:
            raise VerificationError(f"{NAME}: the request is not signed", transient=not self._secrets)
        path = request.path.encode(errors="replace")
        if not any([hmac.compare_digest(one, path) for one in self._paths]):  # noqa: C419 - all, in constant time
            raise VerificationError(f"{NAME}: neither signed nor sent to the secret path")
        return VerifiedBody(request.body)

    def parse(self, body: VerifiedBody) -> Sequence[ProviderEvent]:
        """Read the event of a callback; unknown types map to UNKNOWN. Raises PayloadError and nothing else.

        A withdrawal that cannot be attributed or dated is no form that is understood: it becomes a dead letter whole.

        Whoever is not in a mapped interest has opted out of it: an event for each (``connectors.mailchimp.interests``)
        follows the callback's own.
        """
        if transactional.is_batch(body.body):
            return transactional.parse(body.body)
        form = _form(body.body)
        native = form.get("type", "")
        if not native:
            raise PayloadError(f"{NAME}: the callback has no type")
        kind = _kind(native, form.get("data[reason]", ""))
        address = form.get(_ADDRESS_FIELD.get(kind, "data[email]"), "").strip() or None
        if address is None and kind not in _WITHOUT_ADDRESS:
            raise PayloadError(f"{NAME}: the callback names no address")
        event = ProviderEvent(
            provider=NAME,
            kind=kind,
            native_type=native,
            occurred_at=_occurred_at(form.get("fired_at", ""), body.signed_at),
            keys=(f"{NAME}:{_digest(form)}",),
            address=address,
            new_address=form.get("data[new_email]", "").strip() or None,
            raw=form,
        )
        return [event, *self._opt_outs(event, form)]

    def letter(self, body: VerifiedBody, event: ProviderEvent) -> bytes:
        """The whole form of an audience webhook, which tells of one thing; of Mandrill's, the event alone."""
        return transactional.letter(body, event) if transactional.is_batch(body.body) else body.body

    def _opt_outs(self, event: ProviderEvent, form: Mapping[str, str]) -> Sequence[ProviderEvent]:
        if event.native_type not in TELLING:
            return ()
        (key,) = event.keys
        return [
            replace(
                event,
                kind=EventKind.TOPIC_UNSUBSCRIBE,
                topic=interest,
                keys=(f"{key}:{sha256(interest.encode()).hexdigest()[:16]}",),
            )
            for interest in absent(form, self._interests)
        ]

    def _signed_at(self, header: str, body: bytes, now: datetime) -> datetime:
        parts = _SIGNATURE.fullmatch(header)
        if parts is None:
            raise VerificationError(f"{NAME}: the signature header is malformed")
        stamp, signature = parts[1], parts[2].lower()
        expected = [hmac.new(secret, stamp.encode() + b"." + body, sha256).hexdigest() for secret in self._secrets]
        if not any([hmac.compare_digest(one, signature) for one in expected]):  # noqa: C419 - all, in constant time
            raise VerificationError(f"{NAME}: the signature fits none of the secrets")
        age = now.timestamp() - int(stamp)
        if age > self._oldest.total_seconds():
            raise VerificationError(
                f"{NAME}: the signature is older than providers.{NAME}.tolerance_seconds allows; if it is genuine,"
                " check this machine's clock"
            )
        if -age > self._newest.total_seconds():
            raise VerificationError(
                f"{NAME}: the signature lies further in the future than providers.{NAME}.future_tolerance_seconds"
                " allows; check this machine's clock"
            )
        return datetime.fromtimestamp(int(stamp), UTC)


def _form(body: bytes) -> dict[str, str]:
    """The form's fields; of a repeated one the last counts, as in PHP, for which this form was made."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise PayloadError(f"{NAME}: the callback is not a form") from None


def _kind(native: str, reason: str) -> EventKind:
    general = KINDS.get((native, ""), EventKind.UNKNOWN)
    return KINDS.get((native, reason), general)


def _occurred_at(fired_at: str, signed_at: datetime | None) -> datetime:
    """When it happened, by ``fired_at`` if that is believable.

    Its zone is undocumented: read as UTC. Where the signature shows that reading to be wrong (later than the
    signature, or longer before it than Mailchimp ever retries), the signature's time counts instead: too early a
    time would order a withdrawal before the consent that it ends.
    """
    try:
        fired = datetime.strptime(fired_at.strip(), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        fired = None
    if signed_at is not None:
        return fired if fired and timedelta(0) <= signed_at - fired <= LONGEST_DELAY else signed_at
    if fired is None:
        raise PayloadError(f"{NAME}: the callback says nowhere when it happened")
    return fired


def _digest(form: Mapping[str, str]) -> str:
    """The event's identity, hashed: it has addresses in it."""
    return sha256(repr([form.get(name, "") for name in _IDENTITY]).encode()).hexdigest()
