"""axe-core in a page, against WCAG 2.2 AA and its own best practices.

It is not a requirement of the project: ``PIXELPROOF_AXE`` names its ``axe.min.js`` (npm: axe-core).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

AXE = os.environ.get("PIXELPROOF_AXE", "")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"]

with_axe = pytest.mark.skipif(
    not Path(AXE).is_file(), reason="PIXELPROOF_AXE names no axe.min.js (npm install axe-core)"
)


def violations(page: Page) -> list[str]:
    """What axe-core objects to: rule, and the elements."""
    # A style sheet is allowed by its digest and scripts not at all: only a context without the policy takes axe.
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=Path(AXE))
    result: dict[str, Any] = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    assert len(result["passes"]) > 10
    return [
        f"{found['id']}: {[node['html'] for node in found['nodes']]}"
        for found in (*result["violations"], *unsure(result))
    ]


def unsure(result: dict[str, Any]) -> list[Any]:
    """What axe could not decide, but for contrast where it cannot see the ground: ``test_colours`` computes those."""
    return [found for found in result["incomplete"] if found["id"] != "color-contrast"]
