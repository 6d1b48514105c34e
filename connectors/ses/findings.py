"""How findings about an AWS account are made, and what becomes of a setting that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar

from connectors.ses.settings import NAME
from core.account import Finding, Severity
from core.errors import ProviderError

T = TypeVar("T")


class Unreadable(Exception):
    """A setting could not be read. ``finding`` says which, and why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.setting)
        self.finding = finding


def found(severity: Severity, setting: str, message: str, remedy: str) -> Finding:
    """A finding about SES or SNS."""
    return Finding(NAME, severity, setting, message, remedy)


def asked(action: str, call: Callable[[], T]) -> T:
    """Make a call that needs the permission for ``action``, as IAM names it; raises Unreadable when that fails."""
    try:
        return call()
    except ProviderError as error:
        refused = error.status == HTTPStatus.FORBIDDEN
        raise Unreadable(
            found(
                Severity.ERROR,
                action,
                f"cannot be read, so nobody knows whether it is as it should be ({error})",
                f"allow {action} to the credentials that pixelproof uses"
                if refused
                else "run `pixelproof doctor` again",
            )
        ) from None


def checked(*checks: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of some checks, each of which may end at what it cannot read."""
    for check in checks:
        try:
            yield from check()
        except Unreadable as unreadable:
            yield unreadable.finding
