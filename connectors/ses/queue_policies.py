"""Access policies of SQS queues: who may write to one. Pure functions over the policy's JSON.

What comes raw from a queue carries no signature: whoever may write there can invent a withdrawal, or an open. So only
SNS and EventBridge may, for the team's own accounts, and the accounts themselves.

Source: "Basic examples of Amazon SQS policies" in the Amazon SQS Developer Guide, "Subscribing an Amazon SQS queue to
an Amazon SNS topic" in the Amazon SNS Developer Guide, and "Using resource-based policies for Amazon EventBridge" in
the Amazon EventBridge User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase

from connectors.ses.topic_policies import document, statements, texts

SERVICES = frozenset({"sns.amazonaws.com", "events.amazonaws.com"})
"""What may write for a topic or a rule."""

_SEND = "sqs:sendmessage"
_OPERATORS = frozenset({"stringequals", "arnequals", "arnlike", "stringlike"})
_ACCOUNT = re.compile(r"(?:arn:[a-z-]+:(?:iam|sts)::)?(?P<account>\d{12})(?:\Z|:.+)")
_ARN_PARTS = 6

_Json = Mapping[str, object]


def open_to_others(policy: str, accounts: Collection[str]) -> bool:
    """Whether a statement may let somebody write who is neither of these accounts nor SNS or EventBridge for them."""
    return any(not _closed(each, accounts) for each in _writing(policy))


def lets_aws_in(policy: str, accounts: Collection[str]) -> bool:
    """Whether a statement lets SNS or EventBridge write for these accounts, and is not understood to let others."""
    known = SERVICES | {"*"}
    return any(
        known.intersection(_principals(each)) and _pinned(each.get("Condition"), accounts) for each in _writing(policy)
    )


def _writing(policy: str) -> Iterator[_Json]:
    """The statements that let somebody send messages."""
    for each in statements(document(policy)):
        actions = texts(each.get("Action"))
        if each.get("Effect") == "Allow" and (
            "Action" not in each or any(fnmatchcase(_SEND, action.lower()) for action in actions)
        ):
            yield each


def _closed(statement: _Json, accounts: Collection[str]) -> bool:
    """Whether a statement certainly lets nobody else in. One that is not understood does not say so."""
    if "Principal" not in statement:
        return False
    condition = statement.get("Condition")
    return _pinned(condition, accounts) or all(_is_ours(each, accounts) for each in _principals(statement))


def _is_ours(principal: str, accounts: Collection[str]) -> bool:
    match = _ACCOUNT.fullmatch(principal)
    return match is not None and match["account"] in accounts


def _principals(statement: _Json) -> list[str]:
    principal = statement.get("Principal")
    if isinstance(principal, dict):
        return [text for listed in principal.values() for text in texts(listed)]
    return texts(principal)


def _pinned(condition: object, accounts: Collection[str]) -> bool:
    """Whether one of a statement's conditions, all of which must hold, keeps it to these accounts."""
    if not isinstance(condition, dict):
        return False
    return any(
        _keeps(str(operator).lower(), str(key).lower(), texts(wanted), accounts)
        for operator, tests in condition.items()
        for key, wanted in (tests.items() if isinstance(tests, dict) else ())
    )


def _keeps(operator: str, key: str, wanted: list[str], accounts: Collection[str]) -> bool:
    if not wanted or operator not in _OPERATORS:
        return False
    if key == "aws:sourceaccount":
        return all(each in accounts for each in wanted)
    return key == "aws:sourcearn" and all(_account_of(each) in accounts for each in wanted)


def _account_of(arn: str) -> str:
    parts = arn.split(":")
    return parts[4] if len(parts) >= _ARN_PARTS else ""
