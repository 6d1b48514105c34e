"""Chromium as the tests drive it, and the recipients' pages in it. Screenshots go to ``artifacts/``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from starlette.applications import Starlette

from connectors.simulators.serving import served
from tests.choices_in_memory import SETTINGS, TOKEN, ChoicesInMemory
from webhooks.choices import routes
from webhooks.pages import Pages

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ARTIFACTS = Path(__file__).parents[1] / "artifacts"
PATIENCE = 10_000
"""Milliseconds after which what a test waits for does not come."""
HEIGHT = 900
"""CSS pixels of a window, unless a test says otherwise."""

Scheme = Literal["light", "dark"]
View = tuple[str, int, Scheme]
"""Language, width in CSS pixels, colour scheme."""
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
VIEWS: list[View] = list(product(("fr", "en"), (320, 1280), SCHEMES))

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Site:
    """The served page of one recipient and what it records.

    Attributes:
        complaints: What the browser had to say on its console.
        requests: Every address that it asked for.
    """

    choices: ChoicesInMemory
    browser: Browser
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(
        self,
        language: str = "en",
        width: int = 1280,
        scheme: Scheme = "light",
        path: str = f"/c/{TOKEN}",
        *,
        script: bool = True,
        **options: object,
    ) -> Page:
        """The page, as one person's browser shows it. ``options``: more of the browser's context."""
        shape = {"viewport": {"width": width, "height": HEIGHT}, "color_scheme": scheme, "locale": language}
        context = self.browser.new_context(**{**shape, "java_script_enabled": script, **options})  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(self.url + path)
        return page


@contextmanager
def site_in(browser: Browser) -> Iterator[Site]:
    """The page of one recipient, over HTTP."""
    choices = ChoicesInMemory()
    with served(Starlette(routes=routes(choices, Pages(SETTINGS)))) as url:
        yield Site(choices, browser, url)
        for context in browser.contexts:
            context.close()


def tab_to(page: Page, target: Locator) -> int:
    """Press Tab until the element has the focus; answers how often."""
    for presses in range(1, 40):
        page.keyboard.press("Tab")
        if target.evaluate("element => element === document.activeElement"):
            return presses
    raise AssertionError("the element cannot be reached by keyboard")


def open_details(page: Page) -> None:
    """Unfold everything that can be."""
    for summary in page.locator("details > summary").all():
        summary.click()


def sideways(page: Page) -> list[str]:
    """What is wider than the window or sticks out of its own box, cut off or not.

    But for what can be scrolled by itself, and what only screen readers are meant to have.
    """
    return [str(found) for found in page.evaluate(_SIDEWAYS)]


_SIDEWAYS = """() => {
  const apart = e => e.closest('.unseen') || ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const wide = e => e.getBoundingClientRect().right > innerWidth + 1
    || (e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1);
  const within = e => !e ? false : apart(e) || within(e.parentElement);
  return [document.documentElement, ...document.body.querySelectorAll('*')]
    .filter(e => wide(e) && !within(e)).map(e => e.outerHTML.slice(0, 80));
}"""


def screenshot(page: Page, name: str) -> None:
    """Keep what it looks like."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
