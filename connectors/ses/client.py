"""The AWS clients of one account, through boto3: paced, counted, with failures told apart and nothing secret logged."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec

from connectors.retry import Caller, Failure
from connectors.ses.settings import NAME, SesSettings
from connectors.ses.turns import Turns
from core.errors import SettingsError
from core.ports import Clock

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sesv2 import SESV2Client
    from mypy_boto3_sns import SNSClient

T = TypeVar("T")
A = TypeVar("A", bound=Mapping[str, object])

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

LONG_POLL = 20
"""Seconds for which SQS may wait for a message before it answers."""

_LOGGERS = ("boto3", "botocore", "s3transfer", "urllib3")
_THROTTLED = frozenset({"Throttling", "Throttled", "TooManyRequests", "RequestLimitExceeded"})
_ERROR_CODE = re.compile(r"[\w.:]{1,64}")


class Sqs(Protocol):
    """What is asked of SQS. Each takes the parameters of the operation, and answers its JSON object."""

    def receive_message(self, **request: object) -> Mapping[str, Any]:
        """``ReceiveMessage``."""
        ...

    def delete_message_batch(self, **request: object) -> Mapping[str, Any]:
        """``DeleteMessageBatch``."""
        ...

    def get_queue_attributes(self, **request: object) -> Mapping[str, Any]:
        """``GetQueueAttributes``."""
        ...

    def get_queue_url(self, **request: object) -> Mapping[str, Any]:
        """``GetQueueUrl``."""
        ...


class UnreadableAnswer(Exception):
    """SES answered with success, and with nothing that can be understood."""


class Aws:
    """SES, S3, SNS and SQS of one account. Several threads may share one.

    Args:
        settings: ``[providers.ses]``.
        secrets: Environment variables; credentials that are not there come from AWS's ordinary chain.
        now: The clock.
        sleep: How to wait, in seconds.
        monotonic: A clock that never goes back, in seconds.

    Raises:
        SettingsError: no credentials are to be found.
    """

    def __init__(
        self,
        settings: SesSettings,
        secrets: Mapping[str, str],
        *,
        now: Clock,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _silence()
        self._settings = settings
        self._session = _session(settings.region, secrets)
        self.call = Caller(NAME, translate, now=now, sleep=sleep)
        # Apart from the others: a long poll must not hold a place among the calls to SES.
        self.call_queue = Caller(NAME, translate, now=now, sleep=sleep)
        self.sleep = sleep
        self._turns = Turns(settings.management_calls_per_second, sleep, monotonic)
        self._mine = threading.local()
        self._making = threading.RLock()
        self._sqs: dict[str, Sqs] = {}

    @property
    def made_here(self) -> int:
        """The requests that this thread has made through ``manage`` and ``store``, repeated ones included."""
        return int(getattr(self._mine, "made", 0))

    def manage(self, call: Callable[[], T], *, urgent: bool = False) -> T:
        """Run a call that SES allows once a second only; every attempt waits for its turn, urgent ones before others.

        Raises:
            ProviderRefused: a 4xx that asking again does not change.
            ProviderError: still failing after the last attempt, or not asked because the calls before failed.
        """

        def in_turn() -> T:
            self._turns.take(urgent=urgent)
            return self._counted(call)

        return self.call(in_turn)

    def store(self, call: Callable[[], T]) -> T:
        """Run a call to S3, which has no such limit; raises as ``manage`` does."""
        return self.call(lambda: self._counted(call))

    def _counted(self, call: Callable[[], T]) -> T:
        self._mine.made = self.made_here + 1
        return call()

    @cached_property
    def ses(self) -> SESV2Client:
        """SES, API version 2. An answer that was cut off or is no JSON raises UnreadableAnswer."""
        with self._making:  # clients may be shared by threads, but not be made by several at once
            client = self._session.client("sesv2", endpoint_url=self._settings.endpoint_url, config=self._config)
        client.meta.events.register("before-parse.sesv2", _check_answer)
        return client

    @cached_property
    def s3(self) -> S3Client:
        """S3."""
        with self._making:
            return self._session.client("s3", endpoint_url=self._settings.endpoint_url, config=self._config)

    def sns(self, region: str) -> SNSClient:
        """SNS in the region of a topic, which need not be that of SES."""
        url = self._settings.endpoint_url
        with self._making:
            return self._session.client("sns", region_name=region, endpoint_url=url, config=self._config)

    def sqs(self, region: str) -> Sqs:
        """SQS in the region of a queue, which need not be that of SES; it may be asked to wait for a message."""
        from botocore.config import Config

        url = self._settings.endpoint_url
        patient = Config(read_timeout=self._settings.timeout_seconds + LONG_POLL)
        with self._making:
            if region not in self._sqs:
                config = self._config.merge(patient)
                client: Any = self._session.client("sqs", region_name=region, endpoint_url=url, config=config)
                client.meta.events.register("before-parse.sqs", _check_answer)
                self._sqs[region] = cast("Sqs", client)
            return self._sqs[region]

    @cached_property
    def _config(self) -> Config:
        from botocore.config import Config

        return Config(
            connect_timeout=self._settings.timeout_seconds,
            read_timeout=self._settings.timeout_seconds,
            retries={"total_max_attempts": 1},  # the Caller retries: it knows what may be repeated
            request_checksum_calculation="when_required",
            # By path, so that a local server needs no host name for each bucket.
            s3={"addressing_style": "path"} if self._settings.endpoint_url else None,
        )


def translate(error: Exception) -> Failure | None:
    """What an exception of boto3's means; None when it is not AWS's doing."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError

    if isinstance(error, aws.ClientError):
        metadata = error.response.get("ResponseMetadata", {})
        code = str(error.response.get("Error", {}).get("Code", ""))
        throttled = code.removesuffix("Exception") in _THROTTLED  # some of AWS's services answer that with 400
        return Failure(
            status=HTTPStatus.TOO_MANY_REQUESTS if throttled else metadata.get("HTTPStatusCode"),
            headers=metadata.get("HTTPHeaders", {}),
            detail=code if _ERROR_CODE.fullmatch(code) else "",
        )
    never_left = aws.EndpointConnectionError | aws.ConnectTimeoutError | aws.ProxyConnectionError
    if isinstance(error, never_left | aws.CredentialRetrievalError):
        return Failure(sent=False, detail=type(error).__name__)
    if isinstance(error, aws.HTTPClientError | ResponseParserError | UnreadableAnswer):
        return Failure(detail=type(error).__name__)
    return None


def whole(answer: A, *names: str) -> A:
    """An answer of SES that must have these members: what it lacks must never read as "no" or "none".

    Raises:
        UnreadableAnswer: one is missing.
    """
    if any(answer.get(name) is None for name in names):
        raise UnreadableAnswer
    return answer


class Pace:
    """Keeps what is done under so much a second: wait, do it, note how much it was."""

    def __init__(self, per_second: float, sleep: Callable[[float], None]) -> None:
        self._distance = 1 / per_second
        self._sleep = sleep
        self._next = 0.0

    def wait(self) -> None:
        """Wait until what was noted has had its time."""
        remaining = self._next - time.monotonic()
        if remaining > 0:
            self._sleep(remaining)

    def note(self, amount: int = 1) -> None:
        """So much is being done now."""
        self._next = max(self._next, time.monotonic()) + amount * self._distance


def _session(region: str, secrets: Mapping[str, str]) -> boto3.Session:
    import boto3

    key_id, secret, token = (secrets.get(name) for name in SECRETS)
    if bool(key_id) != bool(secret):
        raise SettingsError("providers.ses: set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or neither")
    session = boto3.Session(key_id, secret, token or None, region_name=region)
    if session.get_credentials() is None:
        raise SettingsError(
            "providers.ses: no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give this machine"
            " a role"
        )
    return session


def _check_answer(response_dict: Mapping[str, Any], **_: object) -> None:
    """Refuse what botocore would take for an empty answer: a body that was cut off, or that is no JSON object."""
    body, length = response_dict["body"], response_dict["headers"].get("content-length")
    if response_dict["status_code"] >= HTTPStatus.MULTIPLE_CHOICES:
        return
    try:
        readable = not body or isinstance(msgspec.json.decode(body), dict)
    except (ValueError, RecursionError):
        readable = False
    if not readable or length not in {None, str(len(body))}:
        raise UnreadableAnswer


def _silence() -> None:
    """Keep the SDK's debug output, which names addresses and prints signed requests, out of every log."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.setLevel(max(logging.WARNING, logger.level))
