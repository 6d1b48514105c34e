"""Logs as JSON lines with a correlation id, and metrics in CloudWatch's embedded metric format (EMF).

Nothing personal stands in either. The alarms of terraform/ read ``DeadLetters`` and ``Incidents`` without dimensions.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO, cast

import structlog

from core.logs import ROOT, JsonLines, to_stderr

NAMESPACE = "pixelproof"

_correlation: ContextVar[str] = ContextVar("correlation", default="")


class _Correlated(JsonLines):
    """A record with the id of what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        record.fields = {**getattr(record, "fields", {}), "correlation": _correlation.get()}
        return super().format(record)


class _Stderr:
    """What ``sys.stderr`` is at the moment of writing."""

    def write(self, text: str) -> int:
        """Write it."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Have it written."""
        sys.stderr.flush()


def begin() -> None:
    """Have the product's logs written as JSON lines; to be called once."""
    to_stderr(getattr(logging, os.environ.get("PIXELPROOF_LOG_LEVEL", "INFO").upper(), logging.INFO))
    for handler in logging.getLogger(ROOT).handlers:
        handler.setFormatter(_Correlated())
    structlog.configure(
        processors=[_correlate, structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Stderr())),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


@contextmanager
def correlated(name: str) -> Iterator[None]:
    """Have whatever is logged meanwhile carry the id of a request or message."""
    token = _correlation.set(name)
    try:
        yield
    finally:
        _correlation.reset(token)


def count(**metrics: float) -> None:
    """Write metrics; those that are 0 are left out."""
    measured = {name: value for name, value in metrics.items() if value}
    if not measured:
        return
    told = [{"Name": name, "Unit": "Seconds" if name.endswith("Seconds") else "Count"} for name in measured]
    directive = {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": told}
    line = {"_aws": {"Timestamp": int(time.time() * 1_000), "CloudWatchMetrics": [directive]}, **measured}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def _correlate(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {**event, "correlation": _correlation.get()}
