"""Structured logs: an event and its fields, written as one JSON object a line.

``log.info("callback taken", provider="sendgrid", events=3)``. It is the standard library's ``logging`` underneath, so
that whoever embeds or tests the application catches it as any other; unless ``to_stderr`` was called, nothing below a
warning is written. Nothing personal belongs into an event or its fields.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

ROOT = "pixelproof"
"""Above all loggers of the product."""

_FIELDS = "fields"


class Log:
    """A logger by name: ``pixelproof.<part>``."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, event: str, **fields: object) -> None:
        """Something happened as it should."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something was refused, or will be tried again."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something needs to be looked at."""
        self._log(logging.ERROR, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, object]) -> None:
        self._logger.log(level, "%s", event, extra={_FIELDS: fields})


class JsonLines(logging.Formatter):
    """A record as one JSON object: its fields, ``event``, ``level`` and ``timestamp`` (RFC 3339, UTC)."""

    def format(self, record: logging.LogRecord) -> str:
        """One line. A trace is left out: it could carry what must never be logged."""
        at = datetime.fromtimestamp(record.created, UTC)
        line = {
            **getattr(record, _FIELDS, {}),
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": f"{at:%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # half a surrogate pair, in what somebody sent
            return json.dumps(line, default=str)


class _Stderr(logging.Handler):
    """Writes to what ``sys.stderr`` is at that moment; where it is closed, nothing is to be done about it."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()


def get_logger(name: str) -> Log:
    """The logger of that name."""
    return Log(name)


def to_stderr(level: int = logging.INFO) -> None:
    """Write what the product logs, from ``level`` on, to stderr, one JSON object a line."""
    handler = _Stderr()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger(ROOT)
    logger.handlers = [handler]
    logger.setLevel(level)
