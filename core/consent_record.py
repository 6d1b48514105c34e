"""A consent record after ISO/IEC TS 27560:2023, as the W3C DPV guide publishes its fields, and the same as JSON-LD.

The guide (w3id.org/dpv/guides/consent-27560) names the fields, and the terms of the Data Privacy Vocabulary for them;
the standard's own text is not public. Which terms fit our purposes is our choice: unconfirmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from core.ledger import EntryBody, Instant
from core.model import Action, Basis, Party, PurposeId, Role

SCHEMA = "https://w3id.org/dpv/schema/dpv-27560#record-eu-gdpr"
STATES: Mapping[Action, str] = {
    Action.REQUESTED: "ConsentRequested",
    Action.GIVEN: "ConsentGiven",
    Action.REFUSED: "ConsentRefused",
    Action.WITHDRAWN: "ConsentWithdrawn",
    Action.EXPIRED: "ConsentExpired",
    Action.INVALIDATED: "ConsentInvalidated",
    Action.OBJECTED: "ConsentRefused",
}
"""What an entry amounts to, in the vocabulary's terms. It has none for an objection: whoever objects refuses."""
PURPOSE_TYPES: Mapping[str, str] = {
    "performance": "OptimisationForController",
    "deliverability": "OptimisationForController",
    "personalisation": "Personalisation",
    "profiling": "Personalisation",
    "fraud_detection": "FraudPreventionAndDetection",
}
ROLES: Mapping[Role, str] = {
    Role.CONTROLLER: "DataController",
    Role.JOINT_CONTROLLER: "JointDataControllers",
    Role.PROCESSOR: "DataProcessor",
}
PII = ("e-mail address, as a pseudonym", "that and when a mail was opened", "the family of the mail program")
_CONTEXT = {"dpv": "https://w3id.org/dpv#", "dct": "http://purl.org/dc/terms/"}


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds for all records of a team.

    Attributes:
        parties: The register of actors, the sender first.
        retention_months: For how long the record of an open is kept.
        storage_locations: Where it is stored, in the team's words.
        jurisdiction: Whose law applies.
        withdrawal: Where consent is withdrawn.
        validity_days: For how long a consent stands; None where the policy sets no end.
    """

    parties: tuple[Party, ...]
    retention_months: int
    withdrawal: str
    storage_locations: tuple[str, ...] = ()
    jurisdiction: str = "EU"
    validity_days: int | None = None


class RecordNotice(msgspec.Struct, frozen=True):
    """The notice: its version, and the hash of its exact text where that is known."""

    id: str
    sha256: str | None


class RecordPurpose(msgspec.Struct, frozen=True, kw_only=True):
    """One purpose and how data are processed for it. Parties are named by their ``party_id``; times are ISO 8601."""

    purpose: PurposeId
    purpose_type: str
    lawful_basis: Basis
    pii_information: tuple[str, ...]
    pii_controllers: tuple[str, ...]
    collection_method: str
    storage_locations: tuple[str, ...]
    retention_period: str
    jurisdiction: str
    recipient_third_parties: tuple[str, ...]
    withdrawal_method: str


class RecordProcessing(msgspec.Struct, frozen=True):
    """What the consent is about. ``privacy_notice`` and ``language``: None where the source named none."""

    privacy_notice: RecordNotice | None
    language: str | None
    purposes: tuple[RecordPurpose, ...]


class RecordParty(msgspec.Struct, frozen=True):
    """An actor: its number in this record, its role in the vocabulary's terms, its name and contact."""

    party_id: str
    party_type: str
    party_name: str
    party_contact: str


class RecordEvent(msgspec.Struct, frozen=True):
    """What happened. ``validity_duration``: ISO 8601, None where no end is set; ``entity_id``: who did it."""

    event_time: Instant
    validity_duration: str | None
    entity_id: str
    event_type: str
    event_state: str


class ConsentRecord(msgspec.Struct, frozen=True):
    """A consent record: header, processing, parties, events."""

    schema_version: str
    record_id: str
    pii_principal_id: str
    pii_processing: RecordProcessing
    party_identification: tuple[RecordParty, ...]
    consent_events: tuple[RecordEvent, ...]


def consent_record(body: EntryBody, entry_hash: str, conditions: Conditions) -> ConsentRecord:
    """The record of one entry, under the conditions of today."""
    parties = [(f"party-{number}", party) for number, party in enumerate(conditions.parties, 1)]
    processing = RecordProcessing(
        RecordNotice(body.notice, body.notice_sha256) if body.notice else None,
        body.notice_language,
        tuple(_purpose(purpose, body, parties, conditions) for purpose in body.purposes),
    )
    event = RecordEvent(
        event_time=body.occurred_at or body.received_at,
        validity_duration=_validity(body, conditions),
        entity_id=body.recipient,
        event_type="ExpressedConsent",
        event_state=STATES[body.action],
    )
    return ConsentRecord(
        schema_version=SCHEMA,
        record_id=entry_hash,
        pii_principal_id=body.recipient,
        pii_processing=processing,
        party_identification=tuple(RecordParty(id_, ROLES[p.role], p.name, p.contact) for id_, p in parties),
        consent_events=(event,),
    )


def _validity(body: EntryBody, conditions: Conditions) -> str | None:
    ends = body.action is Action.GIVEN and conditions.validity_days
    return f"P{conditions.validity_days}D" if ends else None


def _purpose(
    purpose: PurposeId, body: EntryBody, parties: Sequence[tuple[str, Party]], conditions: Conditions
) -> RecordPurpose:
    concerned = [(id_, party) for id_, party in parties if not party.purposes or purpose in party.purposes]
    return RecordPurpose(
        purpose=purpose,
        purpose_type=PURPOSE_TYPES.get(purpose, "Purpose"),
        lawful_basis=Basis.CONSENT,
        pii_information=PII,
        pii_controllers=tuple(id_ for id_, party in concerned if party.role is not Role.PROCESSOR),
        collection_method=f"{body.source}, by {body.partner}" if body.partner else body.source,
        storage_locations=conditions.storage_locations,
        retention_period=f"P{conditions.retention_months}M",
        jurisdiction=conditions.jurisdiction,
        recipient_third_parties=tuple(id_ for id_, party in concerned[1:]),
        withdrawal_method=conditions.withdrawal,
    )


def json_ld(record: ConsentRecord) -> dict[str, Any]:
    """The record in JSON-LD, in terms of DPV and Dublin Core, as the guide maps them."""
    processing, me = record.pii_processing, f"urn:sha256:{record.record_id}"
    notice = processing.privacy_notice
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@id": me,
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": {"@id": record.schema_version},
        "dct:identifier": record.record_id,
        "dpv:hasDataSubject": {"@type": "dpv:DataSubject", "dct:identifier": record.pii_principal_id},
        "dpv:hasProcess": [_process(purpose, me) for purpose in processing.purposes],
        "dpv:hasEntity": [_entity(party, me) for party in record.party_identification],
        "dpv:hasConsentStatus": [_event(event) for event in record.consent_events],
    }
    if notice:
        document["dpv:hasNotice"] = {"@type": "dpv:ConsentNotice", "dct:identifier": notice.id}
        if notice.sha256:
            document["dpv:hasNotice"]["@id"] = f"urn:sha256:{notice.sha256}"
    if processing.language:
        document["dct:language"] = processing.language
    return document


def _process(purpose: RecordPurpose, record: str) -> dict[str, Any]:
    return {
        "@type": "dpv:Process",
        "dpv:hasPurpose": {"@type": f"dpv:{purpose.purpose_type}", "dct:title": purpose.purpose},
        "dpv:hasLegalBasis": {"@type": "dpv:Consent"},
        "dpv:hasPersonalData": [{"@type": "dpv:PersonalData", "dct:title": kind} for kind in purpose.pii_information],
        "dpv:hasDataController": [{"@id": f"{record}#{party}"} for party in purpose.pii_controllers],
        "dpv:hasRecipient": [{"@id": f"{record}#{party}"} for party in purpose.recipient_third_parties],
        "dpv:hasDataSource": {"@type": "dpv:DataSource", "dct:title": purpose.collection_method},
        "dpv:hasStorageCondition": {
            "@type": "dpv:StorageCondition",
            "dpv:hasDuration": purpose.retention_period,
            "dpv:hasLocation": [*purpose.storage_locations],
        },
        "dpv:hasJurisdiction": purpose.jurisdiction,
        "dpv:hasConsentControl": {"@type": "dpv:WithdrawConsent", "dct:description": purpose.withdrawal_method},
    }


def _entity(party: RecordParty, record: str) -> dict[str, Any]:
    return {
        "@id": f"{record}#{party.party_id}",
        "@type": f"dpv:{party.party_type}",
        "dpv:hasName": party.party_name,
        "dpv:hasContact": party.party_contact,
    }


def _event(event: RecordEvent) -> dict[str, Any]:
    told = {
        "@type": f"dpv:{event.event_state}",
        "dct:date": msgspec.to_builtins(event.event_time),
        "dpv:isIndicatedBy": event.entity_id,
        "dct:type": f"dpv:{event.event_type}",
    }
    return told | ({"dct:valid": event.validity_duration} if event.validity_duration else {})
