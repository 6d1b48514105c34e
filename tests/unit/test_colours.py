"""The accent colour and the style sheet reach WCAG 2.2 level AA, whatever the team sets."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import SettingsError
from webhooks.colours import DARK, LIGHT, READABLE, contrast, readable, theme
from webhooks.pages import HERE

COLOURS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


@given(COLOURS, st.sampled_from([LIGHT, DARK]))
def test_every_accent_becomes_readable(accent: str, surface: str) -> None:
    """Whatever the team's colour, links and buttons reach level AA on either surface."""
    shade = readable(accent, surface)
    assert contrast(shade, surface) >= READABLE[surface] >= 4.5
    assert max(contrast(shade, "#000000"), contrast(shade, "#ffffff")) >= 4.5


@given(COLOURS)
def test_the_theme_keeps_words_on_buttons_readable(accent: str) -> None:
    """The words on a button stand out from it, in both colour schemes."""
    pairs = re.findall(r"--accent:(#\w{6});--on-accent:(#\w{6})", theme(accent))
    assert len(pairs) == 2
    assert all(contrast(shade, text) >= 4.5 for shade, text in pairs)


def test_a_readable_accent_is_left_alone() -> None:
    """A colour that can be read is the team's own, unchanged."""
    assert readable("#1f5f8b", LIGHT) == "#1f5f8b"


@pytest.mark.parametrize("accent", ["red", "#fff", "#12345g", "#1f5f8b;}", "", "1f5f8b", "#1f5f8b\n"])
def test_other_colours_are_refused(accent: str) -> None:
    """Only #rrggbb gets into the style sheet."""
    with pytest.raises(SettingsError, match=r"sender\.accent"):
        theme(accent)


def test_contrast_is_that_of_wcag() -> None:
    """Black on white is 21 to 1; #767676 on white is the well-known edge of level AA."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)
    assert contrast("#777777", "#ffffff") < 4.5


@pytest.mark.parametrize(("scheme", "surface"), [(0, LIGHT), (1, DARK)])
def test_the_style_sheets_colours_are_readable(scheme: int, surface: str) -> None:
    """All text colours reach level AA on every ground they stand on, in both colour schemes."""
    css = (HERE / "static" / "page.css").read_text("utf-8")
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[scheme]
    colour = {**dict(re.findall(r"--([\w-]+): (#\w{6});", block)), "surface": surface}
    grounds = ("surface", "ground", "sunken")
    for text, ground in [*product(("text", "quiet"), grounds), *product(("good",), ("surface", "good-ground"))]:
        assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for text, ground in product(("text", "warn"), ("warn-ground",)):
        assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    assert contrast(colour["text"], colour["good-ground"]) >= 4.5
    assert contrast(colour["control"], colour["surface"]) >= 3
