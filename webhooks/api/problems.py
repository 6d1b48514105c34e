"""The problems that the API answers with (RFC 9457). Nothing of a request is ever repeated in one."""

from __future__ import annotations

from webhooks.api.endpoint import Endpoint, Problem

BAD_REQUEST = Problem(400, "/problems/bad-request", "The request is not of the documented form")
UNAUTHORIZED = Problem(401, "/problems/unauthorized", "No valid API key")
FORBIDDEN = Problem(403, "/problems/missing-scope", "The API key lacks the scope")
NOT_FOUND = Problem(404, "/problems/not-found", "There is no such thing")
METHOD = Problem(405, "/problems/method-not-allowed", "This path does not take that method")
TIMEOUT = Problem(408, "/problems/too-slow", "The request took too long to arrive")
TOO_LARGE = Problem(413, "/problems/too-large", "The body is too large")
MEDIA_TYPE = Problem(415, "/problems/media-type", "The body is not declared as JSON")
INVALID = Problem(422, "/problems/invalid-request", "The request cannot be carried out as it is")
KEY_REUSED = Problem(422, "/problems/idempotency-key-reused", "The idempotency key was used with another body")
TOO_MANY = Problem(429, "/problems/too-many-requests", "Too many requests")
INTERNAL = Problem(500, "/problems/internal", "Something went wrong here")
UNAVAILABLE = Problem(503, "/problems/unavailable", "Out of reach for a while")


def of_every(endpoint: Endpoint) -> tuple[Problem, ...]:
    """All that an operation may answer: what every one may, and its own."""
    common = [BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, TOO_MANY, UNAVAILABLE]
    if endpoint.body is not None:
        common += [TIMEOUT, TOO_LARGE, MEDIA_TYPE, INVALID]
    return tuple(dict.fromkeys([*common, *endpoint.problems]))
