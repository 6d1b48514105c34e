"""The function behind the stream of the ledger's table: withdrawals reach the ESPs within seconds, then the notary.

An ESP that is out of reach does not hold up the others; the records are given again from the first of them on, and
telling an ESP twice does no harm. What is set aside in the end is left to the next sync, which finds the difference.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from core.errors import LogMismatch, PixelproofError, StoreError
from core.ledger import parse
from core.logs import get_logger
from core.model import PROTECTION, Action, RecipientId
from core.notary import note_refusal
from webhooks.assembly import Services
from webhooks.aws.configuration import services
from webhooks.aws.telemetry import correlated, count

CHAIN = "chain#"

log = get_logger("pixelproof.stream")


class Told(NamedTuple):
    """An entry of the stream that stops some tracking, and the number by which its record is known.

    ``recorded_at``: None where the entry cannot be read.
    """

    number: str
    recipient: RecipientId
    recorded_at: datetime | None


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - as Lambda has it
    """Carry the protective entries of a batch of stream records to the ESPs, with ``ReportBatchItemFailures``."""
    with correlated(getattr(context, "aws_request_id", "")):
        made = services()
        told = protective(event.get("Records", []))
        sound = push(made, told)
        notarise(made)
    return {"batchItemFailures": [] if sound or not told else [{"itemIdentifier": told[0].number}]}


def protective(records: Sequence[Mapping[str, Any]]) -> list[Told]:
    """The entries of these records after which less may be tracked; one that cannot be read counts as one."""
    found = []
    for record in records:
        image = record.get("dynamodb", {}).get("NewImage", {})
        place = image.get("pk", {}).get("S", "")
        if record.get("eventName") != "INSERT" or not place.startswith(CHAIN):
            continue
        recipient, raw = RecipientId(bytes.fromhex(place.removeprefix(CHAIN))), b64decode(image["body"]["B"])
        if raw and b'"action"' not in raw:
            continue  # of a campaign
        number = str(record["dynamodb"]["SequenceNumber"])
        try:
            entry = parse(raw)
        except StoreError:
            log.error("an entry of the stream cannot be read")
            found.append(Told(number, recipient, None))
        else:
            if PROTECTION[entry.action] > PROTECTION[Action.GIVEN]:
                found.append(Told(number, recipient, entry.recorded_at))
    return found


def push(made: Services, told: Sequence[Told]) -> bool:
    """Bring every ESP up to date about these people; False when one could not be told."""
    recipients = sorted({each.recipient for each in told})
    sound = True
    for name in made.configured if recipients else ():
        try:
            made.segments.push(name, made.connector(name), recipients)
        except PixelproofError as error:
            log.error(
                "the ESP was not told; trying again", provider=name, recipients=len(recipients), reason=str(error)
            )
            sound = False
    if sound and told:
        waited = [(made.now() - each.recorded_at).total_seconds() for each in told if each.recorded_at]
        count(Withdrawals=len(told), TimeToEffectSeconds=max(waited, default=0))
    return sound


def notarise(made: Services, *, stamp: bool = False) -> None:
    """Put what is new under a checkpoint; what cannot be done now is done the next time."""
    notary = made.notary
    if notary is None:
        return
    try:
        notary.cover(stamp=stamp)
    except LogMismatch as error:
        log.error("INCIDENT: the ledger is not what was signed; nothing more is signed", reason=str(error))
        count(Incidents=int(note_refusal(made.store, made.now)))
    except StoreError as error:
        log.error("new entries are not under a checkpoint yet; trying again", reason=str(error))
