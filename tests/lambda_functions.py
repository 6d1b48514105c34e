"""The deployed functions without Lambda: their environment in a local AWS, and the events that call them."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

import boto3
import pytest
import structlog
from dotenv import dotenv_values

from cli.demo.files import write_settings
from cli.setup import fresh_keys
from core.logs import ROOT
from tests.aws_ground import KEYS, REGION, Ground
from tests.callback_desk import SECRETS, Signed
from tests.installation import ADDRESS, Team
from webhooks.assembly import Services
from webhooks.aws import configuration, http, proofs, scheduled, stream, worker

BASE = "https://choices.example.com"
PARTNER = '\n[[partners]]\nname = "Leads Ltd"\ncontrollers = ["Marché des Lices"]\n'


class Context:
    """What Lambda tells a function of its invocation. ``left``: milliseconds."""

    aws_request_id = "invocation-1"
    function_name = memory_limit_in_mb = "test"

    def __init__(self, left: Callable[[], int] = lambda: 300_000) -> None:
        self._left = left

    def get_remaining_time_in_millis(self) -> int:
        """How many milliseconds there are left."""
        return self._left()


@dataclass
class Deployed:
    """The functions over a local AWS."""

    ground: Ground
    queue: str
    work: str
    bucket: str
    inbox: str
    clients: Mapping[str, Any] = field(repr=False)

    @property
    def services(self) -> Services:
        """What the functions work with."""
        return configuration.services()

    @property
    def team(self) -> Team:
        """The installation, to look into."""
        return Team(self.services, BASE)

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> dict[str, Any]:
        """A request to the HTTP API; answers the function's response."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"host": "choices.example.com", **named},
            "requestContext": {
                "http": {"method": method, "path": path, "sourceIp": "192.0.2.1", "protocol": "HTTP/1.1"},
                "requestId": "request-1",
                "stage": "$default",
            },
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
        }
        return http.handler(event, Context())

    def post(self, signed: Signed) -> int:
        """A provider's callback; answers the status."""
        said = self.ask("POST", signed.path, signed.body, **{k.replace("-", "_"): v for k, v in signed.headers.items()})
        return int(said["statusCode"])

    def waiting(self) -> list[dict[str, Any]]:
        """The messages that wait in the queue of callbacks, as Lambda hands them to the worker."""
        found = self.clients["sqs"].receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [
            {"messageId": each["MessageId"], "body": each["Body"], "attributes": {}, "eventSourceARN": "arn:callbacks"}
            for each in found.get("Messages", [])
        ]

    def work_on(self, *records: Mapping[str, Any]) -> list[str]:
        """Have the worker take messages; answers the ids of those that come again."""
        said = worker.handler({"Records": records}, Context())
        return [each["itemIdentifier"] for each in said["batchItemFailures"]]

    def stream(self, after: int) -> dict[str, Any]:
        """Have the stream carry what was appended behind a position; answers what the function says."""
        records = [
            {
                "eventName": "INSERT",
                "dynamodb": {
                    "SequenceNumber": str(position),
                    "NewImage": {
                        "pk": {"S": f"chain#{entry.recipient.hex()}"},
                        "body": {"B": base64.b64encode(entry.body).decode()},
                    },
                },
            }
            for position, entry in self.services.store.entries()
            if position > after
        ]
        return stream.handler({"Records": records}, Context())

    def do(self, task: str, left: Callable[[], int] = lambda: 300_000) -> dict[str, Any]:
        """Have a task done."""
        return scheduled.handler({"task": task}, Context(left))

    def deliver(self, key: str, content: str) -> list[str]:
        """Put a partner's file into the inbox, and have it reconciled; answers the ids of what comes again."""
        self.clients["s3"].put_object(Bucket=self.inbox, Key=key, Body=content.encode())
        body = json.dumps({"Records": [{"s3": {"bucket": {"name": self.inbox}, "object": {"key": key}}}]})
        said = proofs.handler({"Records": [{"messageId": "file-1", "body": body}]}, Context())
        return [each["itemIdentifier"] for each in said["batchItemFailures"]]


@contextmanager
def deployed(
    ground: Ground,
    patch: pytest.MonkeyPatch,
    folder: Path,
    providers: Mapping[str, Mapping[str, Any]],
    secrets: Mapping[str, str],
) -> Iterator[Deployed]:
    """Settings, secrets, queues and buckets as terraform/ makes them, in a local AWS."""
    place = {"endpoint_url": ground.url, "region_name": REGION}
    keys = {"aws_access_key_id": KEYS["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": KEYS["AWS_SECRET_ACCESS_KEY"]}
    clients: dict[str, Any] = {
        name: boto3.client(name, **place, **keys)  # type: ignore[call-overload]
        for name in ("sqs", "s3", "ssm", "secretsmanager")
    }
    name = ground.prefix
    made = Deployed(
        ground,
        queue=clients["sqs"].create_queue(QueueName=f"{name}-callbacks")["QueueUrl"],
        work=clients["sqs"].create_queue(QueueName=f"{name}-work")["QueueUrl"],
        bucket=f"{name}-store",
        inbox=f"{name}-inbox",
        clients=clients,
    )
    for bucket in (made.bucket, made.inbox):
        clients["s3"].create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    settings = write_settings(folder, BASE, providers).read_text("utf-8") + PARTNER
    clients["ssm"].put_parameter(Name=f"/{name}/settings", Value=settings, Type="String")
    secret = {**dotenv_values(stream=StringIO(fresh_keys())), **SECRETS, **secrets}
    arn = clients["secretsmanager"].create_secret(Name=f"{name}/secrets", SecretString=json.dumps(secret))["ARN"]
    environment = {
        **KEYS,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": ground.url,
        "PIXELPROOF_CONFIG": f"ssm:/{name}/settings",
        "PIXELPROOF_SECRETS_ARN": arn,
        "PIXELPROOF_TABLES": name,
        "PIXELPROOF_BUCKET": made.bucket,
        "PIXELPROOF_INBOX_BUCKET": made.inbox,
        "PIXELPROOF_CALLBACKS_QUEUE": made.queue,
        "PIXELPROOF_WORK_QUEUE": made.work,
        "TMPDIR": str(folder),
    }
    for variable, value in environment.items():
        patch.setenv(variable, value)
    _forget()
    yield made
    configuration.services().close()
    http._loop().close()
    for client in clients.values():
        client.close()
    _forget()


def _forget() -> None:
    """Make the next call a cold start."""
    structlog.reset_defaults()
    logger = logging.getLogger(ROOT)
    logger.handlers = []
    logger.setLevel(logging.NOTSET)
    for cached in (configuration.services, http._adapter, http._loop, worker._worker):
        cached.cache_clear()


def at(services: Services) -> int:
    """The time, as signatures have it."""
    now: datetime = services.now()
    return int(now.timestamp())


__all__ = ["ADDRESS", "Context", "Deployed", "at", "deployed"]
