"""The served API against its own OpenAPI document: schemathesis sends what the document allows, and what not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import openapi_spec_validator
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from cli.setup import fresh_keys
from connectors.simulators.serving import listen, served, url_of
from core.model import Action
from core.ports import Open
from tests.api_caller import Caller
from tests.installation import Team
from webhooks.app import create_app
from webhooks.assembly import Services

EXAMPLES = 12
"""Generated requests for each operation and each kind; all tests together take seconds."""
CAMPAIGN = "spring-2026"
SEED = 4


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A served installation with a recipient, a campaign and an open, and a key with every scope."""
    folder = tmp_path_factory.mktemp("api")
    (folder / ".env").write_text(fresh_keys(), "utf-8")
    listener = listen()
    (folder / "pixelproof.toml").write_text(
        f'base_url = "{url_of(listener)}"\npurposes = ["performance", "personalisation"]\n'
        'personalisation_options = ["content"]\n[sender]\nname = "Marché des Lices"\n'
        "[api]\nrequests_per_minute = 60000\n",
        "utf-8",
    )
    with (
        Services.from_file(folder / "pixelproof.toml") as services,
        served(create_app(services), listener=listener) as url,
    ):
        team = Team(services, url)
        team.say(Action.GIVEN, "performance", "personalisation")
        team.campaign(CAMPAIGN)
        record = services.mailings.campaign(CAMPAIGN)
        assert record is not None
        with services.store.batch() as batch:
            batch.record_opens(
                [Open(CAMPAIGN, team.recipient(), services.now(), record.campaign.purposes, "hosted", client="other")]
            )
        yield Caller(team)
        team.client.close()


@pytest.fixture(scope="module")
def found(api: Caller) -> Findings:
    """All phases of schemathesis against the served API: examples, boundary values, generated requests, sequences."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": {"Authorization": f"Bearer {api.secret}"},
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "no-shrink": True},
            # What the document allows may still be refused: a purpose that the team does not use, for example.
            "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "404", "422"]}},
            "phases": {"stateful": {"generation": {"max-examples": EXAMPLES}}},
        }
    )
    document = str(api.team.client.base_url.join("/openapi.json"))
    findings = Findings()
    for event in from_schema(schemathesis.openapi.from_url(document, config=config)).execute():
        findings.take(event)
    return findings


class Findings:
    """What schemathesis found: failures in words, and the statuses that each operation answered."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.statuses: dict[str, Counter[int]] = {}
        self.phases: Counter[str] = Counter()

    def take(self, event: events.EngineEvent) -> None:
        """Note what an event tells."""
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.failures.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            self._scenario(event)

    def _scenario(self, event: events.ScenarioFinished) -> None:
        recorder = event.recorder
        for each, seen in recorder.interactions.items():
            if seen.response is not None:
                label = recorder.cases[each].value.operation.label
                self.statuses.setdefault(label, Counter())[seen.response.status_code] += 1
                self.phases[event.phase.name] += 1
        for checks in recorder.checks.values():
            self.failures += [
                f"{event.phase.name} {recorder.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for check in checks
                if check.failure_info is not None
            ]


def test_the_api_is_as_its_document_says(found: Findings) -> None:
    """Status, content type, headers and body of every answer; what breaks the document is refused; never a 5xx."""
    assert not found.failures, "\n\n".join(found.failures[:20])


def test_every_operation_was_tried(found: Findings) -> None:
    """Without a key it is refused, with a method that it does not take, and when what is sent breaks the document."""
    assert len(found.statuses) == len(KNOWN)
    for statuses in found.statuses.values():
        assert {401, 405} <= statuses.keys()
        assert statuses.keys() & {400, 422}
    assert found.phases.keys() >= {"EXAMPLES", "COVERAGE", "FUZZING"}


KNOWN = (
    "POST /v1/consents",
    "POST /v1/decisions",
    "POST /v1/recipients/lookup",
    "GET /v1/recipients/{recipient}",
    "GET /v1/recipients/{recipient}/entries",
    "GET /v1/receipts/{recipient}/{seq}",
    "GET /v1/campaigns",
    "GET /v1/campaigns/{campaign}",
    "GET /v1/campaigns/{campaign}/summary",
    "GET /v1/campaigns/{campaign}/opens",
)


@pytest.mark.parametrize("label", [each for each in KNOWN if each.startswith("GET")])
def test_what_is_there_is_told_as_the_document_says(api: Caller, label: str) -> None:
    """Generated requests rarely hit what exists: these do."""
    document = schemathesis.openapi.from_url(str(api.team.client.base_url.join("/openapi.json")))
    method, path = label.split()
    parameters = {"recipient": api.team.recipient().hex(), "seq": 1, "campaign": CAMPAIGN}
    case = document[path][method].Case(
        path_parameters={name: value for name, value in parameters.items() if f"{{{name}}}" in path},
        query={"purpose": "performance"} if path.endswith("/opens") else {},
    )
    answer = case.call_and_validate(headers={"Authorization": f"Bearer {api.secret}"})
    assert answer.status_code == 200
    assert answer.json().get("opens", [...]), "the open on record is among what was validated"


def test_the_document_is_one(api: Caller) -> None:
    """It is valid OpenAPI 3.1."""
    document = api.team.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1.")
    openapi_spec_validator.validate(document)
