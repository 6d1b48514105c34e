"""``[providers.ses]`` and the names under which this product's data stands at Amazon SES."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from core.errors import SettingsError

NAME = "ses"

RECIPIENT_TAG = "pixelproof_recipient"
"""The message tag with the pseudonymous recipient (hex); SES repeats it in each event under ``mail.tags``."""

CAMPAIGN_TAG = "pixelproof_campaign"
"""The message tag with the campaign's name."""

DAY = 86_400
"""Seconds."""

DNS_SUFFIXES = {"aws": "amazonaws.com", "aws-cn": "amazonaws.com.cn", "aws-us-gov": "amazonaws.com"}
"""By partition: what the host names of SNS end in."""

_TOPIC_ARN = re.compile(r"arn:(?P<partition>[a-z-]+):sns:(?P<region>[a-z0-9-]+):\d{12}:[A-Za-z0-9_-]{1,256}")
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?")

_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class SesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``[providers.ses]`` of the settings file.

    Credentials are not among them: they come from ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and
    ``AWS_SESSION_TOKEN``, else from AWS's ordinary chain (profile, container, instance).

    Attributes:
        region: The AWS region of SES and S3, such as ``eu-west-3``.
        contact_list: The account's contact list (SES allows one an account and region). Created when missing. Its
            contacts' AttributesData get the fields ``choices_url`` and ``pixel_path``; other fields survive single
            updates, but not an import job, since SES lists contacts without them.
        topic_prefix: Consent topics are named ``<prefix><purpose>``.
        import_bucket: The S3 bucket through which more than 20 contacts at once are imported; SES must be allowed to
            read it. Without one they go one by one, about three seconds each. Each object is deleted after use; a
            lifecycle rule should catch what a crash leaves.
        topic_arns: The SNS topics whose callbacks are taken. All others are refused. Where exactly one is named,
            configuration sets that have to be made publish to it.
        configuration_set_tracked: The configuration set of mail with SES's own pixel: publishes opens.
        configuration_set_untracked: The one of all other mail: publishes no opens, VDM engagement metrics off.
        redirect_domain: A domain verified in SES that serves the pixel. Needed only to have the tracked configuration
            set made: SES takes ``HttpsPolicy`` only together with such a domain.
        endpoint_url: Where SES, S3 and SNS are reached; None is AWS.
        sns_certificate_origin: Where signing certificates come from. None: ``https://sns.<region of the topic>.`` and
            AWS's domain. Only ``http`` on the loopback may be set, for local servers.
        sns_authority_file: PEM file of the authority that issued the local server's signing certificate; goes with
            ``sns_certificate_origin`` and only with it.
        tolerance_seconds: How old a signed callback may be. SNS repeats for an hour over HTTPS and for 23 days into
            SQS, where a message waits up to 14 days more: 38 days cover both. Repetitions are recognised by their
            keys, not by their age.
        future_tolerance_seconds: How far a callback's timestamp may lie ahead of this machine's clock.
        management_calls_per_second: SES allows one request a second for all but sending mail.
        timeout_seconds: After how long a single request is given up.
        patience_seconds: How long to wait for SES to finish an import job.
    """

    region: Annotated[str, Meta(pattern=r"\A[a-z0-9-]{1,32}\Z")]
    contact_list: _Name = "pixelproof"
    topic_prefix: Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,30}\Z")] = "pixelproof-"
    import_bucket: Annotated[str, Meta(pattern=r"\A[a-z0-9.-]{3,63}\Z")] | None = None
    topic_arns: tuple[str, ...] = ()
    configuration_set_tracked: _Name = "pixelproof-tracked"
    configuration_set_untracked: _Name = "pixelproof-untracked"
    redirect_domain: str | None = None
    endpoint_url: str | None = None
    sns_certificate_origin: str | None = None
    sns_authority_file: str | None = None
    tolerance_seconds: Annotated[int, Meta(ge=3_600, le=60 * DAY)] = 38 * DAY
    future_tolerance_seconds: Annotated[int, Meta(ge=0, le=DAY)] = 300
    management_calls_per_second: Annotated[float, Meta(gt=0)] = 1.0
    timeout_seconds: Annotated[float, Meta(gt=0, le=300)] = 30.0
    patience_seconds: Annotated[float, Meta(gt=0, le=DAY)] = 3_600.0


def topic_regions(settings: SesSettings) -> dict[str, str]:
    """The region of each allowed topic, by its ARN.

    Raises:
        SettingsError: not the ARN of a standard SNS topic in a known partition.
    """
    return {arn: _parts(arn, place)["region"] for place, arn in enumerate(settings.topic_arns)}


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
    parts = {arn: _parts(arn, place) for place, arn in enumerate(settings.topic_arns)}
    return {arn: local or f"https://sns.{p['region']}.{DNS_SUFFIXES[p['partition']]}" for arn, p in parts.items()}


def _parts(arn: str, place: int) -> dict[str, str]:
    match = _TOPIC_ARN.fullmatch(arn)
    if match is None or match["partition"] not in DNS_SUFFIXES:
        raise SettingsError(
            f"providers.ses.topic_arns[{place}]: not the ARN of a standard SNS topic, such as"
            " arn:aws:sns:eu-west-3:123456789012:name"
        )
    return match.groupdict()
