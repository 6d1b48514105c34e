"""Every recipients' page against WCAG 2.2 AA in a real browser: axe-core, keyboard, reflow, zoom, forced colours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page

from core.errors import StoreError
from core.model import PurposeId, State
from core.notices import PURPOSES
from tests.axe import violations, with_axe
from tests.browser import (
    HEIGHT,
    SCHEMES,
    Scheme,
    Site,
    chromium,
    needs_chromium,
    open_details,
    screenshot,
    sideways,
    site_in,
    tab_to,
)
from tests.choices_in_memory import TOKEN
from tests.installation import Team

SMALLEST_TARGET = 24
"""CSS pixels (WCAG 2.2, success criterion 2.5.8)."""
PAGE = f"/c/{TOKEN}"
SOME = {PurposeId("personalisation"): State.GIVEN, PurposeId("profiling"): State.REFUSED}
CONTROLS = "a[href], button, summary, input:not([type=hidden])"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def site(browser: Browser) -> Iterator[Site]:
    """The page of one recipient, over HTTP."""
    with site_in(browser) as site:
        yield site


# The pages


Visit = Callable[..., Page]
"""Opens a path of the site in one view."""


def undecided(_site: Site, visit: Visit) -> Page:
    """Somebody who has not answered, with every detail unfolded."""
    page = visit(PAGE)
    open_details(page)
    return page


def decided(site: Site, visit: Visit) -> Page:
    """Somebody who has agreed to a part comes back."""
    site.choices.states = dict(SOME)
    return visit(PAGE)


def saved(_site: Site, visit: Visit) -> Page:
    """The confirmation of a choice."""
    return _press(visit, "accept_all")


def withdrawn(site: Site, visit: Visit) -> Page:
    """The confirmation of a withdrawal."""
    site.choices.states = dict(SOME)
    return _press(visit, "withdraw")


def stale(_site: Site, visit: Visit) -> Page:
    """An answer to a text that has changed."""
    return _press(visit, "refuse_all", "form => form.elements.notice.value = 'another'")


def erased(site: Site, visit: Visit) -> Page:
    """Somebody whose address is not held any more."""
    site.choices.masked_address = None
    return visit(PAGE)


def record(site: Site, visit: Visit) -> Page:
    """All that is held, something of every kind."""
    site.choices.states = dict(SOME)
    return visit(f"{PAGE}/record")


def unknown_link(_site: Site, visit: Visit) -> Page:
    """A link that does not work."""
    return visit("/c/unknown")


def bad_form(_site: Site, visit: Visit) -> Page:
    """A form that cannot be read."""
    return _press(visit, "accept_all", "form => form.querySelector('button').name = 'nonsense'")


def try_again(site: Site, visit: Visit) -> Page:
    """The store is out of reach."""
    site.choices.fails = StoreError("out of reach")
    return visit(PAGE)


def no_receipt(_site: Site, visit: Visit) -> Page:
    """There is nothing to certify yet."""
    return visit(f"{PAGE}/receipt")


STATES = (
    undecided,
    decided,
    saved,
    withdrawn,
    stale,
    erased,
    record,
    unknown_link,
    bad_form,
    try_again,
    no_receipt,
)
each_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)


def _press(visit: Visit, action: str, first: str = "form => null") -> Page:
    """Open the page, do something to the button's form, press it, and wait for the answer."""
    page = visit(PAGE)
    button = page.locator(f"button[value={action}]")
    button.evaluate("(button, change) => eval(change)(button.form)", first)
    with page.expect_navigation():
        button.click()
    return page


# What a program can find


@with_axe
@pytest.mark.parametrize("language", ["fr", "en"])
@each_state
def test_axe_finds_nothing(site: Site, state: Callable[[Site, Visit], Page], language: str) -> None:
    """No violation of WCAG 2.2 A and AA, nor of axe-core's own best practices; nothing is wider than the window.

    Narrow and wide, light and dark.
    """
    page = state(site, lambda path: site.open(language, path=path, bypass_csp=True))
    assert page.locator("html").get_attribute("lang") == language
    for width, scheme in product((320, 1280), SCHEMES):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.emulate_media(color_scheme=scheme)
        screenshot(page, f"{state.__name__}-{language}-{width}-{scheme}")
        assert (sideways(page), violations(page)) == ([], [])


@with_axe
@pytest.mark.parametrize("scheme", SCHEMES)
def test_axe_finds_nothing_on_the_apis_page(browser: Browser, team: Team, scheme: Scheme) -> None:
    """The page about the API, narrow and wide."""
    with browser.new_context(bypass_csp=True, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(str(team.client.base_url.join("/docs/api")))
        for width in (320, 1280):
            page.set_viewport_size({"width": width, "height": HEIGHT})
            screenshot(page, f"api-{width}-{scheme}")
            assert (sideways(page), violations(page)) == ([], [])


@with_axe
def test_axe_is_at_work(site: Site) -> None:
    """A page with a fault does not pass."""
    page = site.open(bypass_csp=True)
    page.evaluate("document.querySelector('.hint').style.color = '#eee'")
    assert [found.partition(":")[0] for found in violations(page)] == ["color-contrast"]


# What it takes a browser to see


@each_state
def test_every_control_is_large_enough(site: Site, state: Callable[[Site, Visit], Page]) -> None:
    """Whatever can be pressed is at least 24 CSS pixels wide and high, on the narrowest window too."""
    for width in (320, 1280):
        page = state(site, lambda path, width=width: site.open("fr", width, path=path))
        for control in visible(page):
            box = control.bounding_box()
            assert box is not None
            assert min(box["width"], box["height"]) >= SMALLEST_TARGET, control.evaluate("e => e.outerHTML")
        site.choices.fails = None


@pytest.mark.parametrize("state", [undecided, decided, record, stale], ids=lambda state: state.__name__)
def test_tab_goes_through_every_control_in_order(site: Site, state: Callable[[Site, Visit], Page]) -> None:
    """Tab reaches every control once, in the order of the page, in view, and the focus can be seen."""
    page = state(site, lambda path: site.open("en", 320, path=path))
    page.evaluate("scrollTo(0, 0)")
    page.mouse.click(1, 1)
    for control in visible(page):
        page.keyboard.press("Tab")
        assert control.evaluate("e => e === document.activeElement"), control.evaluate("e => e.outerHTML")
        look = control.evaluate(
            "e => { const s = getComputedStyle(e), b = e.getBoundingClientRect();"
            " return [s.outlineStyle, parseFloat(s.outlineWidth), b.top, innerHeight - b.bottom] }"
        )
        assert look[:2] == ["solid", 3]
        assert min(look[2:]) > -1, control.evaluate("e => e.outerHTML")


def visible(page: Page) -> list[Locator]:
    """The controls that can be seen, in the order of the document."""
    return [control for control in page.locator(CONTROLS).all() if control.is_visible()]


def test_enter_works_on_each_control(site: Site) -> None:
    """Links, details and buttons do with Enter what they do with a click; a box is ticked with Space."""
    page = site.open()
    summary = page.locator("summary").first
    tab_to(page, summary)
    page.keyboard.press("Enter")
    box = page.locator("input[type=checkbox]").first
    assert box.is_visible()
    tab_to(page, box)
    page.keyboard.press("Space")
    tab_to(page, page.locator("button[value=save]"))
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    tab_to(page, page.locator("button[value=withdraw]"))
    page.keyboard.press("Enter")
    page.get_by_text("You accept none of the uses below.").wait_for()
    assert [given for given, *_ in site.choices.recorded] == [PURPOSES[:1]]
    assert len(site.choices.withdrawn) == 1
    tab_to(page, page.get_by_role("link", name="What is on record about you"))
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Openings of emails").wait_for()
    tab_to(page, page.get_by_role("link", name="Back to your choices"))
    page.keyboard.press("Enter")
    page.locator("button[value=accept_all]").wait_for()


def test_the_receipt_is_downloaded_by_keyboard(site: Site) -> None:
    """The link saves a file and leaves the page where it is."""
    site.choices.states = dict(SOME)
    page = site.open()
    tab_to(page, page.get_by_role("link", name="Download the receipt of your last answer"))
    with page.expect_download() as saving:
        page.keyboard.press("Enter")
    assert saving.value.suggested_filename == "receipt-2026-11-03.json"
    assert page.locator("h1").is_visible()


@each_state
def test_at_twice_the_size_everything_still_fits(site: Site, state: Callable[[Site, Visit], Page]) -> None:
    """Zoomed to 200 % a window of 1280 by 900 is one of 640 by 450; text alone may be doubled as well."""
    window: dict[str, Any] = {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2}
    page = state(site, lambda path: site.open("fr", 640, path=path, **window))
    screenshot(page, f"{state.__name__}-fr-zoomed")
    assert sideways(page) == []
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert sideways(page) == []
    cut = "e => e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1"
    assert [button.inner_text() for button in page.locator("button").all() if button.evaluate(cut)] == []


def test_text_may_be_set_wider(site: Site) -> None:
    """With the spacing of success criterion 1.4.12 no word is lost and nothing overflows."""
    page = site.open("fr", 320, bypass_csp=True)
    open_details(page)
    page.add_style_tag(
        content="* { line-height: 1.5 !important; letter-spacing: .12em !important; word-spacing: .16em !important }"
        " p { margin-bottom: 2em !important }"
    )
    screenshot(page, "spaced-fr-320")
    assert sideways(page) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_forced_colours_leave_every_control_recognisable(site: Site, scheme: Scheme) -> None:
    """Where the system sets the colours, buttons and messages keep an edge and the chevrons stay."""
    page = _press(lambda path: site.open("en", 1280, scheme, path, forced_colors="active"), "accept_all")
    screenshot(page, f"forced-colours-en-1280-{scheme}")
    assert page.evaluate("matchMedia('(forced-colors: active)').matches")
    for seen in (*page.locator("button").all(), page.get_by_role("status")):
        edge, ground = seen.evaluate(
            "e => { const s = getComputedStyle(e); return [s.borderInlineStartColor, s.backgroundColor] }"
        )
        assert edge != ground
        assert seen.evaluate("e => parseFloat(getComputedStyle(e).borderInlineStartWidth)") >= 2


def test_nothing_moves(site: Site) -> None:
    """No animation and no transition, whether or not the person asks for less of them."""
    for motion in ("reduce", "no-preference"):
        page = site.open(reduced_motion=motion)
        page.locator("summary").first.click()
        assert page.evaluate("document.getAnimations({subtree: true}).length") == 0
        moving = page.evaluate(
            "[...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e);"
            " return parseFloat(s.transitionDuration) > 0 || s.animationName !== 'none'"
            " || s.scrollBehavior === 'smooth' }).length"
        )
        assert moving == 0
