"""What is logged: one JSON object a line, whatever the fields hold, and nothing that could fail a request."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from core import logs

Lines = Callable[[], list[dict[str, Any]]]

log = logs.get_logger("pixelproof.test")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Reads what was written since, while the product logs to stderr."""
    logger = logging.getLogger(logs.ROOT)
    before = logger.handlers, logger.level
    logs.to_stderr()
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    logger.handlers, logger.level = before


def test_a_line_holds_event_fields_level_and_time(lines: Lines) -> None:
    """One object a line, in the order of the calls; what JSON does not know is told as text."""
    log.info("callback %s taken\n", provider="sendgrid", effects={"open": 2}, reason=ValueError("no"))
    log.error("lost")
    first, second = lines()
    at = datetime.fromisoformat(first.pop("timestamp"))
    assert at.tzinfo is not None
    assert first == {
        "event": "callback %s taken\n",
        "level": "info",
        "provider": "sendgrid",
        "effects": {"open": 2},
        "reason": "no",
    }
    assert (second["event"], second["level"]) == ("lost", "error")


def test_a_level_keeps_the_rest_out(lines: Lines) -> None:
    """Told to begin with warnings, it leaves out the rest."""
    logs.to_stderr(logging.WARNING)
    log.info("taken")
    log.warning("refused")
    assert [line["event"] for line in lines()] == ["refused"]


def test_half_a_character_harms_nobody(lines: Lines) -> None:
    """Text that cannot be encoded is replaced; a log line is no reason to fail."""
    log.info("taken", label="\ud800")
    assert [line["event"] for line in lines()] == ["taken"]


@pytest.mark.usefixtures("lines")
def test_a_closed_stream_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads the log any more: the caller goes on."""
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    log.error("lost")
