"""How AWS speaks: signed requests, JSON or XML answers, errors in AWS's own shapes."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

Endpoint = Callable[[Request], Awaitable[Response]]
Json = dict[str, Any]

_CREDENTIAL = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request,"
    r"\s*SignedHeaders=(?P<headers>[^,]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)


class ApiError(Exception):
    """An error answer: AWS's code, its message, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def invalid(field: str, constraint: str) -> ApiError:
    """What SES answers to a member that breaks the model of its API."""
    return ApiError(
        "BadRequestException",
        f"1 validation error detected: Value at '{field}' failed to satisfy constraint: {constraint}",
    )


def required(body: Json, name: str, kind: type = str) -> Any:  # noqa: ANN401 - JSON
    """A member that must be there, of that type."""
    value = body.get(name)
    if value is None:
        raise invalid(name[:1].lower() + name[1:], "Member must not be null")
    if not isinstance(value, kind):
        raise ApiError("SerializationException", f"{name} has the wrong type")
    return value


@dataclass(slots=True)
class Gate:
    """Lets in only requests that are signed (Signature Version 4) with the account's key.

    Attributes:
        denied: Actions of SNS that the key has no permission for.
        per_second: How many requests a second SES takes, those that send mail aside; None for any number.
    """

    key_id: str
    secret: str
    per_second: float | None = None
    denied: set[str] = field(default_factory=set)
    _next: float = 0.0

    def ses(self, act: Callable[[Request, Json], Json]) -> Endpoint:
        """An operation of SES: JSON in, JSON out."""

        async def endpoint(request: Request) -> Response:
            try:
                body = await request.body()
                self._admit(request, body, "ses")
                self._throttle(request)
                return JSONResponse(act(request, _object(body)))
            except ApiError as error:
                return JSONResponse(
                    {"__type": error.code, "message": str(error)}, error.status, {"x-amzn-errortype": error.code}
                )

        return endpoint

    def s3(self, act: Callable[[Request, bytes], Response]) -> Endpoint:
        """An operation of S3: bytes in, XML errors out."""

        async def endpoint(request: Request) -> Response:
            try:
                body = await request.body()
                self._admit(request, body, "s3")
                return act(request, body)
            except ApiError as error:
                return xml(
                    f"<Error><Code>{error.code}</Code><Message>{escape(str(error))}</Message></Error>", error.status
                )

        return endpoint

    def sns(self, act: Callable[[Json], str]) -> Endpoint:
        """Operations of SNS: a form in, XML out."""

        async def endpoint(request: Request) -> Response:
            try:
                body = await request.body()
                self._admit(request, body, "sns")
                form = dict(parse_qsl(body.decode()))
                self._permit(form.get("Action", ""))
                return xml(act(form))
            except ApiError as error:
                inner = f"<Type>Sender</Type><Code>{error.code}</Code><Message>{escape(str(error))}</Message>"
                return xml(f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>", error.status)

        return endpoint

    def _admit(self, request: Request, body: bytes, service: str) -> None:
        match = _CREDENTIAL.fullmatch(request.headers.get("authorization", ""))
        if match is None:
            raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        if match["key"] != self.key_id or match["service"] != service:
            raise ApiError("UnrecognizedClientException", "The security token included in the request is invalid.", 403)
        if not hmac.compare_digest(_signature(request, body, match, self.secret), match["signature"]):
            raise ApiError(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided.",
                403,
            )

    def _permit(self, action: str) -> None:
        if action in self.denied:
            raise ApiError("AuthorizationError", "User is not authorized to perform this operation", 403)

    def _throttle(self, request: Request) -> None:
        if self.per_second is None or "/outbound-" in request.url.path:
            return
        now = time.monotonic()
        if now < self._next:
            raise ApiError("TooManyRequestsException", "Rate exceeded", 429)
        self._next = now + 1 / self.per_second


def iso(at: datetime) -> str:
    """A time as SES and SNS write it: UTC, to the millisecond."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def xml(content: str, status: int = 200) -> Response:
    """An XML answer."""
    return Response(f'<?xml version="1.0" encoding="UTF-8"?>\n{content}', status, media_type="application/xml")


def _signature(request: Request, body: bytes, match: re.Match[str], secret: str) -> str:
    """The signature that this request must carry, computed as the SDK does."""
    from botocore.auth import S3SigV4Auth, SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url = f"{request.url.scheme}://{request.headers['host']}{request.scope['raw_path'].decode()}"
    if request.url.query:
        url += f"?{request.url.query}"
    headers = {name: request.headers.get(name, "") for name in match["headers"].split(";")}
    signed = AWSRequest(request.method, url, headers, body)
    signed.context["timestamp"] = request.headers.get("x-amz-date", "")
    kind = S3SigV4Auth if match["service"] == "s3" else SigV4Auth
    signer = kind(Credentials(match["key"], secret), match["service"], match["region"])
    return str(signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed))


def _object(body: bytes) -> Json:
    try:
        value = msgspec.json.decode(body or b"{}")
    except (ValueError, RecursionError):
        raise ApiError("SerializationException", "Could not parse the request body") from None
    if not isinstance(value, dict):
        raise ApiError("BadRequestException", "The request body must be a JSON object")
    return value
