"""Who may write to a queue, by its access policy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from connectors.ses.queue_policies import lets_aws_in, open_to_others

ACCOUNT, TOPICS, STRANGER = "123456789012", "210987654321", "999999999999"
OURS = {ACCOUNT, TOPICS}
TOPIC = f"arn:aws:sns:eu-west-3:{TOPICS}:ses-events"
RULE = f"arn:aws:events:eu-west-3:{ACCOUNT}:rule/ses"
SNS, EVENTS = {"Service": "sns.amazonaws.com"}, {"Service": "events.amazonaws.com"}


def policy(**changes: Any) -> str:  # noqa: ANN401 - JSON
    """A policy of one statement: SNS may send for our topic, unless told otherwise; None leaves a part out."""
    statement = {
        "Effect": "Allow",
        "Principal": SNS,
        "Action": "sqs:SendMessage",
        "Resource": f"arn:aws:sqs:eu-west-3:{ACCOUNT}:events",
        "Condition": {"ArnEquals": {"aws:SourceArn": TOPIC}},
    } | changes
    return json.dumps({"Statement": [{name: value for name, value in statement.items() if value is not None}]})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="our topic"),
        pytest.param({"Principal": EVENTS, "Condition": {"ArnEquals": {"aws:SourceArn": RULE}}}, id="our rule"),
        pytest.param({"Condition": {"StringEquals": {"aws:SourceAccount": ACCOUNT}}}, id="our account"),
        pytest.param({"Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:sns:*:{ACCOUNT}:*"}}}, id="our topics"),
        pytest.param({"Principal": "*"}, id="everybody, for our topic"),
        pytest.param({"Principal": {"AWS": "*"}}, id="every account, for our topic"),
        pytest.param({"Action": ["sqs:ReceiveMessage", "SQS:SendMessage"]}, id="among other actions"),
        pytest.param({"Condition": {"ARNEQUALS": {"AWS:SOURCEARN": [TOPIC, RULE]}}}, id="in other letters"),
        pytest.param(
            {"Condition": {"Bool": {"aws:SecureTransport": "true"}, "ArnEquals": {"aws:SourceArn": TOPIC}}},
            id="under one more condition",
        ),
    ],
)
def test_sns_and_event_bridge_for_our_accounts(changes: dict[str, Any]) -> None:
    """Nobody else can write, and they can."""
    assert lets_aws_in(policy(**changes), OURS)
    assert not open_to_others(policy(**changes), OURS)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Condition": None}, id="every topic of the world"),
        pytest.param({"Principal": "*", "Condition": None}, id="everybody"),
        pytest.param({"Principal": {"AWS": "*"}, "Condition": None}, id="every account"),
        pytest.param({"Principal": {"AWS": STRANGER}, "Condition": None}, id="another account"),
        pytest.param({"Principal": {"AWS": [ACCOUNT, STRANGER]}, "Condition": None}, id="another account among ours"),
        pytest.param({"Principal": {"AWS": f"arn:aws:iam::{STRANGER}:root"}, "Condition": None}, id="another's root"),
        pytest.param({"Principal": {"Service": "s3.amazonaws.com"}, "Condition": None}, id="another service"),
        pytest.param({"Principal": None, "NotPrincipal": {"AWS": STRANGER}, "Condition": None}, id="all but one"),
        pytest.param({"Principal": None, "Condition": None}, id="nobody named"),
        pytest.param({"Action": "sqs:*", "Condition": None}, id="every action"),
        pytest.param({"Action": "*", "Condition": None}, id="every action of all"),
        pytest.param({"Action": "sqs:Send*", "Condition": None}, id="actions by their beginning"),
        pytest.param({"Action": None, "NotAction": "sqs:DeleteQueue", "Condition": None}, id="all actions but one"),
        pytest.param(
            {"Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:sns:eu-west-3:{STRANGER}:t"}}}, id="another's topic"
        ),
        pytest.param({"Condition": {"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:*:ses-events"}}}, id="topics by name"),
        pytest.param({"Condition": {"ArnLike": {"aws:SourceArn": "*"}}}, id="every ARN"),
        pytest.param({"Condition": {"ArnEquals": {"aws:SourceArn": [TOPIC, "arn:aws:sns:*:*:*"]}}}, id="one too many"),
        pytest.param({"Condition": {"ArnNotEquals": {"aws:SourceArn": TOPIC}}}, id="all but our topic"),
        pytest.param({"Condition": {"ArnEqualsIfExists": {"aws:SourceArn": TOPIC}}}, id="where it says so"),
        pytest.param({"Condition": {"StringEquals": {"aws:SourceArn": []}}}, id="for nothing"),
        pytest.param({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}, id="a whole organisation"),
        pytest.param({"Condition": {"StringEquals": "odd"}}, id="a condition of another form"),
        pytest.param({"Condition": "odd"}, id="a text for conditions"),
    ],
)
def test_whatever_may_let_others_write_is_told(changes: dict[str, Any]) -> None:
    """So is what is not understood."""
    assert open_to_others(policy(**changes), OURS)
    assert not lets_aws_in(policy(**changes), OURS)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Effect": "Deny"}, id="a denial"),
        pytest.param({"Action": "sqs:ReceiveMessage", "Condition": None}, id="reading"),
        pytest.param({"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Condition": None}, id="the owner"),
        pytest.param({"Principal": {"AWS": ACCOUNT}, "Condition": None}, id="the owner by number"),
        pytest.param({"Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:role/ops"}, "Condition": None}, id="our role"),
    ],
)
def test_ours_and_what_lets_nobody_write(changes: dict[str, Any]) -> None:
    """Nothing to be told of, but neither SNS nor EventBridge is let in."""
    assert not open_to_others(policy(**changes), OURS)
    assert not lets_aws_in(policy(**changes), OURS)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Statement": 7}', '{"Statement": [7]}'])
def test_a_policy_that_says_nothing(text: str) -> None:
    """Nobody but the owner may write."""
    assert not open_to_others(text, OURS)
    assert not lets_aws_in(text, OURS)
