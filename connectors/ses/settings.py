"""``[providers.ses]`` and the names under which this product's data stands at Amazon SES."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from core.errors import SettingsError

NAME = "ses"

RECIPIENT_TAG = "pixelproof_recipient"
"""The message tag with the pseudonymous recipient (hex); SES repeats it in each event under ``mail.tags``."""

CAMPAIGN_TAG = "pixelproof_campaign"
"""The message tag with the campaign's name."""

TOPICS_VARIABLE = "SES_TOPIC_ARNS"
"""The environment variable with further SNS topics, separated by commas, as ``webhooks install`` gives them."""

DAY = 86_400
"""Seconds."""

DNS_SUFFIXES = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}
"""By partition: what the host names of SNS end in."""

_TOPIC_ARN = re.compile(
    r"arn:(?P<partition>[a-z-]+):sns:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):[A-Za-z0-9_-]{1,256}"
)
_QUEUE = r"/(?P<account>\d{12})/(?P<name>[A-Za-z0-9_-]{1,80})"
_QUEUE_URL = re.compile(r"https://(?:sqs\.(?P<region>[a-z0-9-]+)\.|[a-z0-9.-]+\.)amazonaws\.com(?:\.cn)?" + _QUEUE)
_LOCAL_QUEUE_URL = re.compile(r"http://(?P<region>)(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?" + _QUEUE)
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?")

_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class SesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[providers.ses]`` of the settings file.

    Credentials are not among them: they come from ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and
    ``AWS_SESSION_TOKEN``, else from AWS's ordinary chain (profile, container, instance).

    Attributes:
        region: The AWS region of SES and S3, such as ``eu-west-3``.
        contact_list: The account's contact list (SES allows one an account and region). Created when missing. Its
            contacts' AttributesData get the fields ``choices_url`` and ``pixel_path``.
        foreign_attributes: What becomes of AttributesData of the team's own when more than 20 contacts change at once.
            SES lists contacts without them, and an import replaces them. ``keep``: each contact that is in the list
            already is asked for before, at one a second, so that nothing is lost: an hour for 3,600 of them, none for
            new ones. ``replace``: nobody else writes AttributesData, so nobody is asked for.
        topic_prefix: Consent topics are named ``<prefix><purpose>``.
        import_bucket: The S3 bucket through which more than 20 contacts at once are imported; SES must be allowed to
            read it. Without one they go one by one, about three seconds each. Each object is deleted after use; a
            lifecycle rule should catch what a crash leaves.
        topic_arns: The SNS topics whose callbacks are taken, with those in the environment variable
            ``SES_TOPIC_ARNS``. All others are refused. Where exactly one is named, configuration sets that have to be
            made publish to it.
        configuration_set_tracked: The configuration set of mail with SES's own pixel: publishes opens.
        configuration_set_untracked: The one of all other mail: publishes no opens, VDM engagement metrics off.
        redirect_domain: A domain verified in SES that serves the pixel. Needed only to have the tracked configuration
            set made: SES takes ``HttpsPolicy`` only together with such a domain.
        endpoint_url: Where SES, S3 and SNS are reached; None is AWS.
        sns_certificate_origin: Where signing certificates come from. None: ``https://sns.<region of the topic>.`` and
            AWS's domain. Only ``http`` on the loopback may be set, for local servers.
        sns_authority_file: PEM file of the authority that issued the local server's signing certificate; goes with
            ``sns_certificate_origin`` and only with it.
        queue_url: The SQS queue from which events are read, beside what comes over HTTPS: a topic is subscribed to it,
            raw or not, or a rule of EventBridge has it as its target. What carries no signature is believed because
            the queue's access policy lets nobody else write; `doctor` reads that policy.
        queue_visibility_seconds: For how long the queue hides what was read and is being taken; what failed comes
            again after it.
        eventbridge_key_header: The header in which an API destination of EventBridge sends its key; the keys stand in
            the environment variable ``SES_EVENTBRIDGE_KEYS``.
        tolerance_seconds: How old a callback over HTTPS may be. SNS repeats for an hour at most, EventBridge for 24;
            what is delivered again by hand from a dead-letter queue is older. Repetitions are recognised by their
            keys, not by their age.
        queue_tolerance_seconds: How old an event in the queue may be. SNS repeats for 23 days into SQS, where a message
            waits for up to 14, and for as long again when it is moved back from a dead-letter queue: 51 days, and one
            more.
        future_tolerance_seconds: How far a callback's timestamp may lie ahead of this machine's clock.
        management_calls_per_second: SES allows one request a second for all but sending mail.
        timeout_seconds: After how long a single request is given up.
        patience_seconds: How long to wait for SES to finish an import job.
    """

    region: Annotated[str, Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    contact_list: _Name = "pixelproof"
    foreign_attributes: Literal["keep", "replace"] = "keep"
    topic_prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,30}\Z")] = "pixelproof-"
    import_bucket: Annotated[str, Meta(pattern=r"\A[a-z0-9.-]{3,63}\Z")] | None = None
    topic_arns: tuple[str, ...] = ()
    configuration_set_tracked: _Name = "pixelproof-tracked"
    configuration_set_untracked: _Name = "pixelproof-untracked"
    redirect_domain: str | None = None
    endpoint_url: str | None = None
    sns_certificate_origin: str | None = None
    sns_authority_file: str | None = None
    queue_url: str | None = None
    queue_visibility_seconds: Annotated[int, Meta(ge=1, le=DAY // 2)] = 120
    eventbridge_key_header: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")] = "x-pixelproof-key"
    tolerance_seconds: Annotated[int, Meta(ge=3_600, le=60 * DAY)] = 38 * DAY
    queue_tolerance_seconds: Annotated[int, Meta(ge=DAY, le=60 * DAY)] = 52 * DAY
    future_tolerance_seconds: Annotated[int, Meta(ge=0, le=DAY)] = 300
    management_calls_per_second: Annotated[float, Meta(gt=0)] = 1.0
    timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 30.0
    patience_seconds: Annotated[float, Meta(gt=0, le=DAY)] = 3_600.0


@dataclass(frozen=True, slots=True)
class TopicName:
    """The parts of an SNS topic's ARN."""

    partition: str
    region: str
    account: str


@dataclass(frozen=True, slots=True)
class QueueName:
    """The parts of an SQS queue's URL. ``region`` is that of SES where the URL does not say."""

    region: str
    account: str
    name: str


def queue_name(settings: SesSettings) -> QueueName | None:
    """The parts of ``queue_url``; None when no queue is named.

    Raises:
        SettingsError: not the URL of a standard SQS queue.
    """
    url = settings.queue_url
    if url is None:
        return None
    match = _QUEUE_URL.fullmatch(url) or _LOCAL_QUEUE_URL.fullmatch(url)
    if match is None:
        raise SettingsError(
            "providers.ses.queue_url: not the URL of a standard SQS queue, such as"
            " https://sqs.eu-west-3.amazonaws.com/123456789012/name"
        )
    return QueueName(match["region"] or settings.region, match["account"], match["name"])


def topic_name(arn: str) -> TopicName | None:
    """The parts of the ARN of a standard SNS topic in a known partition; None when it is not one."""
    match = _TOPIC_ARN.fullmatch(arn)
    return TopicName(**match.groupdict()) if match and match["partition"] in DNS_SUFFIXES else None


def with_topics(settings: SesSettings, secrets: Mapping[str, str]) -> SesSettings:
    """The settings with the topics of the environment variable ``SES_TOPIC_ARNS`` among ``topic_arns``.

    Raises:
        SettingsError: an entry of the variable is not the ARN of a standard SNS topic.
    """
    named = [arn.strip() for arn in secrets.get(TOPICS_VARIABLE, "").split(",") if arn.strip()]
    for place, arn in enumerate(named, 1):
        _parts(arn, f"{TOPICS_VARIABLE}: entry {place}")
    return msgspec.structs.replace(settings, topic_arns=tuple(dict.fromkeys((*settings.topic_arns, *named))))


def topic_regions(settings: SesSettings) -> dict[str, str]:
    """The region of each allowed topic, by its ARN.

    Raises:
        SettingsError: not the ARN of a standard SNS topic in a known partition.
    """
    return {arn: name.region for arn, name in _topics(settings).items()}


def accounts(settings: SesSettings) -> frozenset[str]:
    """The AWS accounts of the allowed topics; raises SettingsError as ``topic_regions`` does."""
    return frozenset(name.account for name in _topics(settings).values())


def certificate_origins(settings: SesSettings) -> dict[str, str]:
    """Where each allowed topic's signing certificates come from: scheme, host and, for local servers, port.

    Raises:
        SettingsError: a topic's ARN is wrong, or ``sns_certificate_origin`` is not one of this machine.
    """
    local = settings.sns_certificate_origin
    if local is not None and not _LOOPBACK.fullmatch(local):
        raise SettingsError(
            "providers.ses.sns_certificate_origin: only http://127.0.0.1:<port> or the like, for local servers;"
            " leave it out for AWS"
        )
    if (local is None) != (settings.sns_authority_file is None):
        raise SettingsError(
            "providers.ses.sns_authority_file: goes with providers.ses.sns_certificate_origin, for local servers only:"
            " set both or neither"
        )
    topics = _topics(settings).items()
    return {arn: local or f"https://sns.{name.region}.{DNS_SUFFIXES[name.partition]}" for arn, name in topics}


def _topics(settings: SesSettings) -> dict[str, TopicName]:
    return {arn: _parts(arn, f"providers.ses.topic_arns[{n}]") for n, arn in enumerate(settings.topic_arns)}


def _parts(arn: str, where: str) -> TopicName:
    name = topic_name(arn)
    if name is None:
        raise SettingsError(
            f"{where}: not the ARN of a standard SNS topic, such as arn:aws:sns:eu-west-3:123456789012:name"
        )
    return name
