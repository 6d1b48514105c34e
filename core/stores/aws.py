"""How AWS is reached: one way to its credentials for DynamoDB and S3."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from core.errors import SettingsError

SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_LOGGERS = ("boto3", "botocore", "urllib3")


def connected(
    service: str,
    setting: str,
    region: str | None,
    endpoint_url: str | None,
    secrets: Mapping[str, str] | None,
    **options: Any,  # noqa: ANN401 - those of botocore's Config
) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes as it goes
    """A client of an AWS service; several threads may share it.

    Args:
        service: AWS's name of it.
        setting: What in ``[store]`` asks for it, for errors.
        region: The AWS region; None: as AWS's ordinary chain has it.
        endpoint_url: For a local server.
        secrets: Environment variables; credentials that are not there come from AWS's ordinary chain.
        options: Of botocore's ``Config``.

    Raises:
        SettingsError: no region or no credentials are to be found.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    for name in _LOGGERS:  # at finer levels they log whole requests
        logging.getLogger(name).setLevel(logging.WARNING)
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    keys = {name: (secrets or {}).get(secret) for name, secret in zip(names, SECRETS, strict=True)}
    try:
        session = boto3.session.Session(region_name=region, **keys)  # type: ignore[arg-type]  # names of its own
        if session.get_credentials() is None:
            raise SettingsError(f"[store] {setting}: no AWS credentials; set AWS_ACCESS_KEY_ID or a role")
        return session.client(service, endpoint_url=endpoint_url, config=Config(**options))  # type: ignore[call-overload]
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"[store] region, endpoint_url: {type(error).__name__}") from None
