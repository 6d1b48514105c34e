"""Access policies of SNS topics: who may publish to one. Pure functions over the policy's JSON.

Whoever may publish can invent events that SNS then signs, so SES is let in for this account's configuration sets alone:
without ``aws:SourceAccount`` any AWS account's SES could publish.

Source: "Set up an Amazon SNS event destination" in the Amazon SES Developer Guide, and "Example cases for Amazon SNS
access control" in the Amazon SNS Developer Guide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

SES = "ses.amazonaws.com"
STATEMENT = "PixelproofSesEvents"
"""The id of the statement that is made here."""

_PUBLISH = ("sns:publish", "sns:*", "*")
_EVERYBODY = frozenset({SES, "*"})
_EXACT = frozenset({"stringequals", "arnequals"})
_LIKE = frozenset({"stringlike", "arnlike", "arnequals"})

_Json = Mapping[str, object]


def letting_ses_in(policy: str, topic: str, account: str, sources: Sequence[str]) -> str:
    """The policy with a statement that lets SES publish for these configuration sets (ARNs) of this account.

    Every other statement stays as it is.
    """
    held = document(policy)
    statement = {
        "Sid": STATEMENT,
        "Effect": "Allow",
        "Principal": {"Service": SES},
        "Action": "sns:Publish",
        "Resource": topic,
        "Condition": {"StringEquals": {"aws:SourceAccount": account, "aws:SourceArn": sorted(sources)}},
    }
    others = [each for each in statements(held) if each.get("Sid") != STATEMENT]
    return json.dumps({"Version": "2012-10-17", **held, "Statement": [*others, statement]})


def lets_ses_in(policy: str, topic: str, account: str, source: str) -> bool:
    """Whether a statement certainly lets SES publish for one configuration set (its ARN) of an account."""
    known = {"aws:sourceaccount": account, "aws:sourcearn": source}
    return any(_holds(each, known) for each in _publishing(policy, topic))


def open_to_others(policy: str, topic: str) -> bool:
    """Whether a statement lets anybody publish, or SES for anybody's account, under no condition at all."""
    return any(not each.get("Condition") for each in _publishing(policy, topic))


def _publishing(policy: str, topic: str) -> Iterator[_Json]:
    """The statements that let SES, or everybody, publish to the topic."""
    for each in statements(document(policy)):
        if (
            each.get("Effect") == "Allow"
            and _EVERYBODY.intersection(_principals(each.get("Principal")))
            and any(text.lower() in _PUBLISH for text in texts(each.get("Action")))
            and any(fnmatchcase(topic, pattern) for pattern in texts(each.get("Resource", "*")))
        ):
            yield each


def _holds(statement: _Json, known: Mapping[str, str]) -> bool:
    """Whether each of a statement's conditions certainly holds. One that is not understood does not."""
    condition = statement.get("Condition") or {}
    if not isinstance(condition, dict):
        return False
    for operator, tests in condition.items():
        for key, wanted in tests.items() if isinstance(tests, dict) else [("", ())]:
            if not _meets(str(operator).lower(), known.get(str(key).lower()), texts(wanted)):
                return False
    return True


def _meets(operator: str, value: str | None, wanted: Sequence[str]) -> bool:
    if value is None:
        return False
    return (operator in _EXACT and value in wanted) or (
        operator in _LIKE and any(fnmatchcase(value, pattern) for pattern in wanted)
    )


def _principals(principal: object) -> list[str]:
    if isinstance(principal, dict):
        return [*texts(principal.get("Service")), *(text for text in texts(principal.get("AWS")) if text == "*")]
    return texts(principal)


def document(policy: str) -> dict[str, object]:
    """A policy's JSON object; empty when there is none."""
    try:
        value = json.loads(policy or "{}")
    except (ValueError, RecursionError):
        value = {}
    return value if isinstance(value, dict) else {}


def statements(held: _Json) -> list[_Json]:
    """The statements of a policy."""
    listed = held.get("Statement", [])
    return [each for each in (listed if isinstance(listed, list) else [listed]) if isinstance(each, dict)]


def texts(value: object) -> list[str]:
    """The texts in what may be one or a list."""
    listed = value if isinstance(value, list) else [value]
    return [text for text in listed if isinstance(text, str)]
