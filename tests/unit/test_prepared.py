"""Pages with gaps: each person's own words in the page that many share, and nowhere else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.model import PurposeId, RecipientId, State
from tests.pages_read import PAGES, Tree, body, links
from webhooks.pages import Message
from webhooks.prepared import Gaps
from webhooks.visits import Visit

NAMES = ("token", "address", "seen")


@given(st.lists(st.sampled_from(NAMES) | st.text()), st.text(), st.text())
def test_values_stand_where_the_marks_stood(parts: list[str], token: str, address: str) -> None:
    """Every mark becomes its value, escaped; whatever stands around them stays, and no value is looked at again."""
    gaps = Gaps(NAMES)
    values = {"token": token, "address": address, "seen": gaps.marks["token"]}
    page = "".join(gaps.marks.get(part, part) for part in parts)
    escaped = {name: value.replace("&", "&amp;") for name, value in values.items()}
    for sign, entity in (("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        escaped = {name: value.replace(sign, entity) for name, value in escaped.items()}
    assert gaps.cut(page).filled(values) == "".join(escaped.get(part, part) for part in parts)


def test_marks_differ_from_process_to_process() -> None:
    """Nobody can put one into a name."""
    assert not set(Gaps(NAMES).marks.values()) & set(Gaps(NAMES).marks.values())


def test_people_who_stand_alike_share_no_word_of_their_own() -> None:
    """Address, link and number are each person's, though the page is made once."""
    states = {PurposeId("profiling"): State.GIVEN}
    for number, address in ((1, "a••••@e••••e.com"), (2, None), (3, "b••••@e••••e.com")):
        visit = Visit(RecipientId(bytes(16)), f"token{number}", address, None, states, number)
        response = PAGES.choices("en", visit)
        tree = Tree(body(response))
        assert links(response) == [f"token{number}/receipt?lang=en", f"token{number}/record?lang=en"]
        assert {field["value"] for field in tree.all("input", name="seen")} == {str(number)}
        assert ["a••••@" in tree.text, "b••••@" in tree.text] == [number == 1, number == 3]
        assert "gap" not in body(response).replace("gap:", "").replace("gap ", "")


def test_people_who_stand_otherwise_get_another_page() -> None:
    """Nothing of how one person stands shows on the page of another."""
    nobody = Visit(RecipientId(bytes(16)), "t", None, None, {})
    agreed = Visit(RecipientId(bytes(16)), "t", None, None, {PurposeId("profiling"): State.GIVEN})
    for visit, boxes in ((nobody, 0), (agreed, 1), (nobody, 0)):
        tree = Tree(body(PAGES.choices("en", visit, Message.NONE)))
        assert sum("checked" in box for box in tree.all("input", type="checkbox")) == boxes
