"""Settings and secrets of a function, read once at its cold start, and the services that are built from them.

PIXELPROOF_CONFIG          a path, ``s3://bucket/key``, or ``ssm:/name`` of a parameter
PIXELPROOF_SECRETS_ARN     a secret of Secrets Manager: a JSON object of environment variables
PIXELPROOF_TABLES          what the tables' names begin with; PIXELPROOF_BUCKET: the bucket of what is shown
PIXELPROOF_INBOX_BUCKET    the bucket of what comes in
PIXELPROOF_CALLBACKS_QUEUE, PIXELPROOF_WORK_QUEUE    URLs of queues
PIXELPROOF_SES_QUEUE       the ARN of the queue in which SES's events wait
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import msgspec

from core.errors import SettingsError
from core.settings import CONFIG_VARIABLE, Secrets, Settings, StoreSettings, load
from webhooks.assembly import Services
from webhooks.aws.telemetry import begin

SECRETS = "PIXELPROOF_SECRETS_ARN"
TABLES = "PIXELPROOF_TABLES"
BUCKET = "PIXELPROOF_BUCKET"

_MOST = 1 << 20
_values = msgspec.json.Decoder(dict[str, str]).decode


@lru_cache(maxsize=1)
def services() -> Services:
    """The services of this function.

    Raises:
        SettingsError: a setting or a secret is missing, wrong, or out of reach.
    """
    begin()
    folder = Path(gettempdir()) / "pixelproof"  # nothing else can be written to
    folder.mkdir(mode=0o700, exist_ok=True)
    settings = _settings(os.environ, folder)
    return Services(settings, Secrets({**_secrets(os.environ), **os.environ}), folder)


def setting(name: str) -> str:
    """A variable that terraform/ sets; raises SettingsError when it is not there."""
    value = os.environ.get(name, "")
    if not value:
        raise SettingsError(f"{name}: not set; terraform/ sets it for each function")
    return value


def client(service: str) -> Any:  # noqa: ANN401 - boto3 makes its clients' classes as it goes
    """A client of an AWS service, in the region and with the role of this function."""
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3})
    return boto3.client(service, config=config)  # type: ignore[call-overload]  # any service


def _settings(environment: Mapping[str, str], folder: Path) -> Settings:
    place = environment.get(CONFIG_VARIABLE) or "/var/task/pixelproof.toml"
    file = Path(place)
    if place.startswith(("s3://", "ssm:")):
        file = folder / "pixelproof.toml"
        file.write_bytes(_fetched(place))
    settings = load(file)
    tables = environment.get(TABLES)
    if not tables:
        if settings.store.kind == "sqlite" and environment.get("AWS_LAMBDA_FUNCTION_NAME"):
            raise SettingsError(f"{TABLES}: not set, and nothing that is written to a function's own disk lasts")
        return settings
    kept = msgspec.structs.asdict(settings.store) | {"kind": "dynamodb", "tables": tables}
    return msgspec.structs.replace(settings, store=StoreSettings(**kept | {"bucket": environment.get(BUCKET, "")}))


def _fetched(place: str) -> bytes:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        if place.startswith("ssm:"):
            found = client("ssm").get_parameter(Name=place.removeprefix("ssm:"), WithDecryption=True)
            return str(found["Parameter"]["Value"]).encode()
        bucket, _, key = place.removeprefix("s3://").partition("/")
        return bytes(client("s3").get_object(Bucket=bucket, Key=key)["Body"].read(_MOST))
    except (BotoCoreError, ClientError) as error:
        raise SettingsError(f"{CONFIG_VARIABLE}: the settings are out of reach ({type(error).__name__})") from None


def _secrets(environment: Mapping[str, str]) -> Mapping[str, str]:
    arn = environment.get(SECRETS)
    if not arn:
        return {}
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        text = client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"]
        return _values(text)
    except (BotoCoreError, ClientError) as error:
        raise SettingsError(f"{SECRETS}: the secret is out of reach, or empty ({type(error).__name__})") from None
    except (msgspec.MsgspecError, KeyError):
        raise SettingsError(f"{SECRETS}: the secret must hold a JSON object of names and values") from None
