"""The choices page in a real browser: both languages, narrow and wide, light and dark, by keyboard alone.

Screenshots go to ``artifacts/``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from core.model import PurposeId, State
from core.notices import PURPOSES
from tests.browser import SCHEMES, VIEWS, Scheme, Site, chromium, needs_chromium, screenshot, sideways, site_in, tab_to
from tests.choices_in_memory import TOKEN

GIVEN = {PurposeId("personalisation"): State.GIVEN}

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


@pytest.mark.parametrize(("language", "width", "scheme"), VIEWS)
def test_the_page_fits_every_view(site: Site, language: str, width: int, scheme: Scheme) -> None:
    """Nothing overflows sideways, closed or open; buttons are large enough and equal; the style sheet applies."""
    page = site.open(language, width, scheme)
    assert page.locator("html").get_attribute("lang") == language
    screenshot(page, f"choices-{language}-{width}-{scheme}")
    for summary in page.locator("summary").all():
        summary.click()
    screenshot(page, f"choices-{language}-{width}-{scheme}-open")
    assert sideways(page) == []
    accept, refuse = (page.locator(f"button[value={value}]").bounding_box() for value in ("accept_all", "refuse_all"))
    assert accept is not None
    assert refuse is not None
    assert (accept["width"], accept["height"], accept["y"]) == (refuse["width"], refuse["height"], refuse["y"])
    assert min(accept["width"], accept["height"]) >= 44
    ground = page.evaluate("getComputedStyle(document.querySelector('.sheet')).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(24, 27, 32)"}[scheme]
    assert site.complaints == []


@pytest.mark.parametrize(("language", "width", "scheme"), VIEWS)
def test_a_saved_choice_is_seen(site: Site, language: str, width: int, scheme: Scheme) -> None:
    """After saving one purpose the confirmation is in view, and withdrawing is one button in view as well."""
    page = site.open(language, width, scheme)
    use = page.locator("article", has=page.locator("#personalisation"))
    use.locator("summary").click()
    use.locator("input").check()
    page.locator("button[value=save]").click()
    page.get_by_role("status").wait_for()
    screenshot(page, f"choices-{language}-{width}-{scheme}-saved")
    ((given, refused, _notice, _text),) = site.choices.recorded
    assert given == ("personalisation",)
    assert len(refused) == 4
    for seen in (page.get_by_role("status"), page.locator("button[value=withdraw]")):
        box = seen.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900
    assert sideways(page) == []


@pytest.mark.parametrize("language", ["fr", "en"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_problem_pages_look_alike(site: Site, language: str, scheme: Scheme) -> None:
    """An unknown link shows a page of the same look."""
    page = site.open(language, 320, scheme, "/c/unknown")
    screenshot(page, f"choices-{language}-320-{scheme}-unknown")
    assert page.locator("h1").count() == 1
    assert sideways(page) == []


@pytest.mark.parametrize("action", ["refuse_all", "accept_all"])
def test_the_keyboard_alone_is_enough(site: Site, action: str) -> None:
    """Tab reaches either button, the focus can be seen, Enter presses it."""
    page = site.open()
    button = page.locator(f"button[value={action}]")
    tab_to(page, button)
    outline = button.evaluate(
        "element => getComputedStyle(element).outlineStyle + getComputedStyle(element).outlineWidth"
    )
    assert outline == "solid3px"
    assert button.evaluate("e => { const b = e.getBoundingClientRect(); return b.top >= 0 && b.bottom <= innerHeight }")
    screenshot(page, f"choices-focus-{action}")
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    ((given, refused, _notice, _text),) = site.choices.recorded
    assert (given, refused) == ((PURPOSES, ()) if action == "accept_all" else ((), PURPOSES))


def test_refusing_is_one_key_from_accepting(site: Site) -> None:
    """The two buttons follow each other: refusing takes no detour."""
    page = site.open()
    tab_to(page, page.locator("button[value=accept_all]"))
    assert tab_to(page, page.locator("button[value=refuse_all]")) == 1


def test_enter_in_a_box_never_accepts_all(site: Site) -> None:
    """Enter on a ticked box saves that box and nothing more."""
    page = site.open()
    page.locator("summary").first.click()
    box = page.locator("input[type=checkbox]").first
    tab_to(page, box)
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert [given for given, *_ in site.choices.recorded] == [("performance",)]


def test_withdrawing_takes_one_click(site: Site) -> None:
    """One click withdraws everything, without script and without typing anything (§5)."""
    site.choices.states = dict(GIVEN)
    page = site.open(script=False)
    page.locator("button[value=withdraw]").click()
    page.get_by_text("You accept none of the uses below.").wait_for()
    assert len(site.choices.withdrawn) == 1
    assert page.locator("button[value=withdraw]").count() == 0


def test_everything_works_without_script(site: Site) -> None:
    """Details open, boxes tick and forms are sent with scripts off."""
    page = site.open(script=False)
    page.locator("summary").nth(4).click()
    page.locator("input[type=checkbox]").nth(4).check()
    page.locator("button[value=save]").click()
    page.get_by_role("status").wait_for()
    assert [given for given, *_ in site.choices.recorded] == [("fraud_detection",)]


def test_reloading_sends_nothing_again(site: Site) -> None:
    """Reloading the confirmation repeats no choice."""
    page = site.open()
    page.locator("button[value=accept_all]").click()
    page.get_by_role("status").wait_for()
    page.reload()
    page.get_by_role("status").wait_for()
    assert len(site.choices.recorded) == 1


def test_the_language_can_be_switched(site: Site) -> None:
    """The switch changes the text, and the choice is recorded about the text in that language."""
    page = site.open("en")
    page.get_by_role("link", name="Français").click()
    page.get_by_role("button", name="Tout refuser").click()
    page.get_by_text("Votre choix est enregistré", exact=True).wait_for()
    ((_given, _refused, notice, _text),) = site.choices.recorded
    assert notice.language == "fr"
    assert page.locator("html").get_attribute("lang") == "fr"


def test_the_browser_asks_nobody_else(site: Site) -> None:
    """Showing the page and choosing makes requests to the page's own address and to nothing else."""
    page = site.open()
    page.locator("button[value=refuse_all]").click()
    page.get_by_role("status").wait_for()
    assert [url.split("?")[0] for url in site.requests] == [f"{site.url}/c/{TOKEN}"] * 3
    assert site.complaints == []


def test_every_control_has_its_own_name(site: Site) -> None:
    """A screen reader hears which purpose a box or a detail belongs to."""
    page = site.open()
    for summary in page.locator("summary").all():
        summary.click()
    headings = page.locator("article h3").all_inner_texts()
    assert len(headings) == 5
    for heading in headings:
        assert page.get_by_role("checkbox", name=f"I accept this use ({heading})").count() == 1
        assert page.get_by_role("article", name=heading, exact=True).count() == 1
