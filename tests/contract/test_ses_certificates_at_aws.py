"""The address at AWS from which a signing certificate is fetched: that one and no other, whatever it answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import respx

from connectors.ses.certificates import HttpCertificates
from connectors.ses.codec import SesCodec
from connectors.ses.settings import SesSettings
from core.errors import VerificationError
from core.model import WebhookRequest

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "ses.json").read_text("utf-8"))
GENUINE = next(case for case in CASES if case["name"] == "open")
URL, PEM = next(iter(GENUINE["certificates"].items()))


@pytest.fixture
def aws() -> Iterator[respx.MockRouter]:
    """Everything that goes through httpx ends here; what no route expects is an error."""
    with respx.mock(assert_all_called=False) as router:
        yield router


def verify(case: dict[str, Any], codec: SesCodec | None = None) -> None:
    """Verify a callback of the vectors."""
    made = codec or SesCodec(msgspec.convert(case["settings"], SesSettings), HttpCertificates())
    request = WebhookRequest("POST", "/webhooks/ses", case["headers"], case["body"].encode())
    made.verify(request, now=datetime.fromisoformat(case["now"]))


def test_the_certificate_comes_from_sns_in_the_topics_region_once(aws: respx.MockRouter) -> None:
    """One GET of exactly that address; the second callback asks nobody."""
    route = aws.get(URL).respond(200, text=PEM)
    codec = SesCodec(msgspec.convert(GENUINE["settings"], SesSettings), HttpCertificates())
    for _ in range(2):
        verify(GENUINE, codec)
    assert route.call_count == len(aws.calls) == 1


@pytest.mark.parametrize(
    "case", [c for c in CASES if c["name"].startswith("certificate from:")], ids=lambda case: str(case["name"])
)
def test_nothing_is_asked_at_any_other_address(aws: respx.MockRouter, case: dict[str, Any]) -> None:
    """A forged address costs no request at all (SSRF)."""
    aws.route().respond(200, text=PEM)
    with pytest.raises(VerificationError):
        verify(case)
    assert len(aws.calls) == 0


def test_a_redirect_is_not_followed(aws: respx.MockRouter) -> None:
    """Nor is it repeated."""
    aws.get(URL).respond(302, headers={"location": "https://elsewhere.example/x.pem"})
    with pytest.raises(VerificationError) as refused:
        verify(GENUINE)
    assert not refused.value.transient
    assert len(aws.calls) == 1


@pytest.mark.parametrize("failure", [httpx.ConnectError("no"), httpx.ReadTimeout("slow"), 500, 503, 429])
def test_what_may_pass_asks_for_another_delivery(aws: respx.MockRouter, failure: Exception | int) -> None:
    """A certificate that cannot be had now must not cost a genuine withdrawal; the next delivery gets it."""
    route = aws.get(URL)
    route.side_effect = [failure if isinstance(failure, Exception) else httpx.Response(failure)]
    codec = SesCodec(msgspec.convert(GENUINE["settings"], SesSettings), HttpCertificates())
    with pytest.raises(VerificationError) as refused:
        verify(GENUINE, codec)
    assert refused.value.transient
    route.side_effect = None
    route.respond(200, text=PEM)
    verify(GENUINE, codec)
