"""Times as whole numbers: DynamoDB's numbers are decimal, and no float goes in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from core.errors import DamagedState
from core.model import EPOCH
from core.stores.dynamodb.values import DAMAGED, Value, number

_MICROSECOND = timedelta(microseconds=1)


def micros(at: datetime) -> int:
    """Microseconds since the epoch."""
    return (at - EPOCH) // _MICROSECOND


def time_in(item: Mapping[str, Value], name: str) -> datetime:
    """An attribute that is such a time; raises DamagedState when it is not there, or something else."""
    try:
        return EPOCH + number(item, name) * _MICROSECOND
    except OverflowError:
        raise DamagedState(DAMAGED) from None
