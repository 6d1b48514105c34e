"""Fetching SNS's signing certificates over HTTP: once, bounded, and never from somewhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from connectors.ses.certificates import KEPT, LARGEST, HttpCertificates
from connectors.simulators.serving import served
from connectors.simulators.ses.signer import Signer
from core.errors import VerificationError


@dataclass
class Site:
    """A server of certificates and of other things."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    pem: bytes = b""

    async def answer(self, request: Request) -> Response:
        """What stands at a path: its name says what."""
        name = request.path_params["name"]
        self.asked.append(name)
        match name.split("-")[0]:
            case "good":
                return Response(self.pem)
            case "moved":
                return RedirectResponse(f"{self.url}/good-elsewhere")
            case "status":
                return Response(status_code=int(name.split("-")[1]))
            case "large":
                return Response(self.pem + b" " * LARGEST)
            case "slow":
                return StreamingResponse(self._drip())
        return Response(b"hello")

    async def _drip(self) -> AsyncIterator[bytes]:
        for _ in range(50):
            await asyncio.sleep(0.1)
            yield b"x"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """It is served."""
    found = Site(pem=Signer(lambda: datetime.now(UTC)).certificate)
    with served(Starlette(routes=[Route("/{name}", found.answer)])) as url:
        found.url = url
        yield found


def test_a_certificate_is_fetched_once(site: Site) -> None:
    """The second time it is remembered, whichever thread asks."""
    source = HttpCertificates()
    site.asked.clear()
    threads = [threading.Thread(target=source.get, args=(f"{site.url}/good-1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.get(f"{site.url}/good-1").subject == source.get(f"{site.url}/good-1").subject
    assert site.asked == ["good-1"]


def test_the_cache_has_a_bound_and_failures_are_not_remembered(site: Site) -> None:
    """The certificate that was used longest ago goes first; what failed is asked for again."""
    source = HttpCertificates()
    site.asked.clear()
    for number in range(KEPT + 1):
        source.get(f"{site.url}/good-{number}")
        source.get(f"{site.url}/good-0")
    source.get(f"{site.url}/good-1")
    assert site.asked.count("good-0") == 1
    assert site.asked.count("good-1") == 2
    for _ in range(2):
        with pytest.raises(VerificationError):
            source.get(f"{site.url}/status-404")
    assert site.asked.count("status-404") == 2


@pytest.mark.parametrize("name", ["status-403", "status-404", "large", "text", "moved"])
def test_what_is_no_certificate_is_refused_for_good(site: Site, name: str) -> None:
    """Missing, too large, not a certificate, or somewhere else: a redirect is not followed."""
    site.asked.clear()
    with pytest.raises(VerificationError) as refusal:
        HttpCertificates().get(f"{site.url}/{name}")
    assert not refusal.value.transient
    assert site.asked == [name]


@pytest.mark.parametrize("name", ["status-500", "status-503", "status-429", "slow"])
def test_what_may_pass_is_transient(site: Site, name: str) -> None:
    """Overloaded or slow: the provider shall deliver again."""
    with pytest.raises(VerificationError) as refusal:
        HttpCertificates(timeout=0.4).get(f"{site.url}/{name}")
    assert refusal.value.transient


def test_nobody_there_is_transient() -> None:
    """A refused connection may pass, and a URL of any form raises nothing else."""
    for url in ("http://127.0.0.1:9/x.pem", "http://[::1/x", "http://\x00", ""):
        with pytest.raises(VerificationError) as refusal:
            HttpCertificates(timeout=1).get(url)
        assert refusal.value.transient


def test_waiting_for_another_fetch_has_an_end(site: Site) -> None:
    """Whoever waits behind a slow fetch is told to come again, not kept."""
    source = HttpCertificates(timeout=0.3)
    with source._one_at_a_time(), pytest.raises(VerificationError) as refusal:
        source.get(f"{site.url}/good-1")
    assert refusal.value.transient


def test_reading_the_cache_waits_for_no_fetch(site: Site) -> None:
    """A certificate that is remembered is at hand while another one is being fetched."""
    source = HttpCertificates(timeout=0.3)
    fetched = source.get(f"{site.url}/good-1")
    with source._one_at_a_time():
        assert source.get(f"{site.url}/good-1") is fetched
