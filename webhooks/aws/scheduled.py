"""The function of the schedule: sync, poll, notarise, expire, purge, and sync whole.

What takes longer than one invocation stops before its end, and sends itself a message: the journal says where to go on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from connectors import provider as provider_of
from core.errors import InputError, PixelproofError, ProviderError, StoreError
from core.logs import get_logger
from core.ports import Capability
from webhooks.assembly import Services
from webhooks.aws.configuration import client, services, setting
from webhooks.aws.stream import notarise
from webhooks.aws.telemetry import correlated, count

MARGIN = 60_000
"""Milliseconds before the end of an invocation at which its work stops."""

log = get_logger("pixelproof.scheduled")


class OutOfTime(Exception):
    """The invocation is about to end."""


class Deadline:
    """Tells work to stop in time.

    Args:
        remaining: Answers how many milliseconds are left.
    """

    def __init__(self, remaining: Callable[[], int]) -> None:
        self._remaining = remaining

    def check(self, _done: int = 0) -> None:
        """Raises OutOfTime when there is hardly any time left; a ``Progress``."""
        if self._remaining() < MARGIN:
            raise OutOfTime


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - as Lambda has it
    """Do the task that a schedule names, or each of those in a batch of SQS messages.

    Raises:
        PixelproofError: a task could not be done; Lambda tries it again, and sets it aside in the end.
    """
    deadline = Deadline(context.get_remaining_time_in_millis)
    if "Records" not in event:
        return _do(event, deadline, context.aws_request_id)
    failed = []
    for record in event["Records"]:
        try:
            _do(_read(record["body"]), deadline, record["messageId"])
        except PixelproofError as error:
            log.error("task not done; it comes again", reason=str(error))
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def _read(body: str) -> Mapping[str, Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise InputError("not a task")
    return asked


def _do(asked: Mapping[str, Any], deadline: Deadline, name: str) -> dict[str, Any]:
    with correlated(name):
        done = carry_out(services(), asked, deadline)
        if done.get("continues"):
            _ask_again(asked)
        log.info("task done", **done)
        return done


def _ask_again(asked: Mapping[str, Any]) -> None:
    """Send the task to the queue of work; raises StoreError. Twice does no harm: the journal says where to go on."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client("sqs").send_message(QueueUrl=setting("PIXELPROOF_WORK_QUEUE"), MessageBody=json.dumps(dict(asked)))
    except (BotoCoreError, ClientError) as error:
        raise StoreError(f"the queue of work is out of reach ({type(error).__name__})") from None


def carry_out(made: Services, asked: Mapping[str, Any], deadline: Deadline) -> dict[str, Any]:
    """Do a task; what came of it, and whether it must go on.

    Raises:
        InputError: there is no such task.
        PixelproofError: it could not be done.
    """
    task = str(asked.get("task", ""))
    if task not in TASKS:
        raise InputError(f"task: one of {', '.join(sorted(TASKS))}")
    try:
        return {"task": task, "continues": False, **TASKS[task](made, deadline)}
    except OutOfTime:
        return {"task": task, "continues": True}


def _sync(made: Services, deadline: Deadline, *, complete: bool = False) -> dict[str, Any]:
    """Every ESP gets its turn, whatever becomes of another one."""
    failures, confirmed = [], 0
    for name in made.configured:
        try:
            done = made.segments.sync(name, made.connector(name), deadline.check, complete=complete)
            confirmed += done.confirmed
        except PixelproofError as error:
            log.error("ESP not in step yet; trying again", provider=name, reason=str(error))
            failures.append(error)
    if failures:
        raise failures[0]
    return {"confirmed": confirmed}


def _expire(made: Services, deadline: Deadline) -> dict[str, Any]:
    """Consents that expired, and people who may be asked again, show when everybody is compared."""
    return _sync(made, deadline, complete=True)


def _repair(made: Services, deadline: Deadline) -> dict[str, Any]:
    drifted = 0
    for name in made.configured:
        _, drift = made.repair.run(name, made.connector(name), deadline.check)
        drifted += drift.drifted
    return {"drifted": drifted}


def _poll(made: Services, deadline: Deadline) -> dict[str, Any]:
    polled = 0
    for record in made.mailings.campaigns():
        name = record.campaign.provider
        if name in made.configured and Capability.POLL_OPENS in provider_of(name).capabilities:
            deadline.check()
            try:
                made.polling.poll(made.connector(name), record.campaign.id)
                polled += 1
            except ProviderError as error:
                log.error("opens not fetched yet; trying again", provider=name, reason=str(error))
    return {"campaigns": polled}


def _notarise(made: Services, _deadline: Deadline) -> dict[str, Any]:
    notarise(made, stamp=True)
    incidents = len(made.incidents.listed())
    count(DeadLetters=sum(made.dead_letters.counts().values()), Incidents=incidents)
    return {"incidents": incidents}


def _purge(made: Services, _deadline: Deadline) -> dict[str, Any]:
    return {"deleted": sum(each.deleted for each in made.retention.apply())}


TASKS: Mapping[str, Callable[[Services, Deadline], dict[str, Any]]] = {
    "sync": _sync,
    "repair": _repair,
    "poll": _poll,
    "notarise": _notarise,
    "expire": _expire,
    "purge": _purge,
}
