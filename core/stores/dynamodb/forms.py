"""The items of the ledger and of what is written in its batches: what others read stands here beside what is written.

Recipients are written as 32 hex digits. What is listed in their order is sharded by the first of these, the *nibble*:
the shards from 0 to f in turn give that order, and none of them takes all the load.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from core.consent import Standing, Standings
from core.errors import DamagedState
from core.incidents import Incident, IncidentKind
from core.model import PurposeId, RecipientId
from core.ports import Answered, Entry, Head, Open
from core.stores.dynamodb.table import Index, Item
from core.stores.dynamodb.values import DAMAGED, Value, number, raw, text

NIBBLES = "0123456789abcdef"
PENDING = Index("pending", "pending", "at")
SEGMENT = Index("segment", "segment", "recipient")
SHARDS = 16
"""Of a counter, so that writers seldom meet; its total is their sum."""
CHUNKS = 10_000
"""Positions whose log chunks share a hash key."""

_STANDINGS = msgspec.msgpack.Decoder(dict[PurposeId, Standing])
_encode_standings = msgspec.msgpack.Encoder(order="sorted").encode
_MOST_RANDOM = 1 << 20
_MILLISECONDS = 1_000


def nibble(recipient: RecipientId) -> str:
    """The shard of a recipient."""
    return recipient.hex()[0]


def moment(seconds: int) -> datetime:
    """A time from epoch seconds; raises DamagedState for one that there is not."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise DamagedState(DAMAGED) from None


def bytes_in(item: Mapping[str, Value], name: str, prefix: str = "") -> bytes:
    """The bytes that an attribute holds in hex behind a prefix; raises DamagedState."""
    try:
        return bytes.fromhex(text(item, name).removeprefix(prefix))
    except ValueError:
        raise DamagedState(DAMAGED) from None


def recipient_in(item: Mapping[str, Value], name: str, prefix: str = "") -> RecipientId:
    """The recipient that an attribute names behind a prefix; raises DamagedState."""
    return RecipientId(bytes_in(item, name, prefix))


def number_in(item: Mapping[str, Value], name: str, prefix: str = "") -> int:
    """The number that an attribute's text holds behind a prefix; raises DamagedState."""
    try:
        return int(text(item, name).removeprefix(prefix))
    except ValueError:
        raise DamagedState(DAMAGED) from None


# Ledger table: entries, the log of their positions. State table: heads, markers.


def chain_key(recipient: RecipientId) -> str:
    """The hash key of a chain, in the ledger table."""
    return f"chain#{recipient.hex()}"


def entry_sort(seq: int) -> str:
    """The range key of an entry."""
    return f"{seq:010}"


def entry_item(entry: Entry) -> Item:
    """An entry, in the ledger table."""
    return {"pk": chain_key(entry.recipient), "sk": entry_sort(entry.seq), "body": entry.body, "hash": entry.hash}


def entry_of(item: Mapping[str, Value]) -> Entry:
    """An entry as it is stored; raises DamagedState."""
    whose, seq = recipient_in(item, "pk", "chain#"), number_in(item, "sk")
    return Entry(whose, seq, raw(item, "body"), raw(item, "hash"))


def log_key(position: int) -> tuple[str, str]:
    """The key of the log chunk that begins at a position, in the ledger table."""
    return f"log#{position // CHUNKS:010}", f"{position:012}"


def head_key(recipient: RecipientId) -> tuple[str, str]:
    """The key of a head, in the state table."""
    return f"head#{nibble(recipient)}", recipient.hex()


def head_item(recipient: RecipientId, head: Head) -> Item:
    """A head."""
    pk, sk = head_key(recipient)
    return {"pk": pk, "sk": sk, "seq": head.seq, "hash": head.hash, "standings": _encode_standings(head.standings)}


def head_of(item: Mapping[str, Value]) -> tuple[RecipientId, Head]:
    """A head as it is stored, and whose it is; raises DamagedState."""
    recipient = recipient_in(item, "sk")
    try:
        standings = _STANDINGS.decode(raw(item, "standings"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise DamagedState("a recipient's stored state is damaged: see `pixelproof ledger verify`") from None
    return recipient, Head(number(item, "seq"), raw(item, "hash"), standings)


def person_key(recipient: RecipientId) -> str:
    """The hash key of what is kept of one person besides the head, in the state table."""
    return f"person#{recipient.hex()}"


def marker_sort(seq: int) -> str:
    """The range key of the marker that says which position an entry has."""
    return f"entry#{seq:010}"


def marker_item(entry: Entry) -> Item:
    """The marker of an entry; it needs ``position``, or what ``waiting`` gives until it has one."""
    return {"pk": person_key(entry.recipient), "sk": marker_sort(entry.seq), "hash": entry.hash}


def waiting(recipient: RecipientId, now: datetime) -> Item:
    """What a marker has besides as long as its entry has no position."""
    at = now.astimezone(UTC).isoformat(timespec="microseconds")
    return {"pending": f"pending#{nibble(recipient)}", "at": f"{at}#{recipient.hex()}"}


# Who stands where on a purpose: state table, read through the index SEGMENT.


def settled(standing: Standing) -> str:
    """Where somebody stands, but that a consent may have expired since: its age is looked at by whoever reads."""
    return standing.recorded.value


def segment_key(purpose: PurposeId, state: str, shard: str) -> str:
    """The hash key, in the index, of all who stand there and whose recipients begin with that hex digit."""
    return f"{purpose}#{state}#{shard}"


def segment_changes(recipient: RecipientId, before: Standings, after: Standings) -> list[Item]:
    """The rows that say where somebody stands, where that has changed."""
    changed = []
    for purpose, standing in sorted(after.items()):
        state = settled(standing)
        if purpose in before and settled(before[purpose]) == state:
            continue
        segment = segment_key(purpose, state, nibble(recipient))
        row: Item = {"pk": person_key(recipient), "sk": f"purpose#{purpose}"}
        changed.append({**row, "segment": segment, "recipient": recipient.hex()})
    return changed


# Idempotency keys and counters: state table.

SEEN = "seen#"
"""What the hash key of a remembered idempotency key begins with."""


def seen_key(key: bytes) -> tuple[str, str]:
    """The key of a remembered idempotency key. Gone once ``expires`` (epoch seconds) has passed, where it has one."""
    return f"{SEEN}{key.hex()}", "seen"


def counter_key(scope: str) -> str:
    """The hash key of a scope's counters."""
    return f"counter#{scope}"


def counter_sort(name: str, shard: int) -> str:
    """The range key of a shard of a counter; ``n`` is what it amounts to."""
    return f"{name}#{shard:02}"


def counter_name(item: Mapping[str, Value]) -> str:
    """The name of the counter that an item is a shard of."""
    return text(item, "sk").rpartition("#")[0]


# Opens: state table, under campaign and nibble, in the order of their numbers; the index SEGMENT finds a person's.


def open_number(now: datetime) -> int:
    """The number of an open that is recorded now: milliseconds since the epoch, then 20 random bits; below 2^63.

    Numbers grow with time, but what was numbered a little earlier may be committed a little later: whoever reads on
    from a number must not go nearer to the present than transactions take.
    """
    return int(now.timestamp() * _MILLISECONDS) * _MOST_RANDOM + secrets.randbelow(_MOST_RANDOM)


def open_sort(open_number: int) -> str:
    """The range key of an open; ``0`` is before all of them."""
    return f"{open_number:019}"


def opens_key(campaign: str, shard: str) -> str:
    """The hash key of a campaign's opens by recipients whose hex form begins with that digit."""
    return f"opens#{campaign}#{shard}"


def opens_of_person(recipient: RecipientId) -> str:
    """The hash key, in the index SEGMENT, of one person's opens; the range key there is the recipient."""
    return f"opens#{recipient.hex()}"


def open_item(each: Open, open_number: int) -> Item:
    """An open."""
    return {
        "pk": opens_key(each.campaign, nibble(each.recipient)),
        "sk": open_sort(open_number),
        "segment": opens_of_person(each.recipient),
        "recipient": each.recipient.hex(),
        "campaign": each.campaign,
        "opened_at": int(each.opened_at.timestamp()),
        "serves": " ".join(each.serves),
        "source": each.source,
        "machine": each.machine,
        "client": each.client,
    }


def open_of(item: Mapping[str, Value]) -> tuple[int, Open]:
    """An open as it is stored, and its number; raises DamagedState."""
    return number_in(item, "sk"), Open(
        campaign=text(item, "campaign"),
        recipient=recipient_in(item, "recipient"),
        opened_at=moment(number(item, "opened_at")),
        serves=tuple(map(PurposeId, text(item, "serves").split())),
        source=text(item, "source"),
        machine=item.get("machine") is True,
        client=text(item, "client"),
    )


# Incidents: state table. All of them under one hash key, by number from 1; and the last of each kind by scope.

INCIDENTS = "incidents"
"""The hash key of all incidents."""


def incident_sort(incident: int) -> str:
    """The range key of an incident."""
    return f"{incident:010}"


def last_incident_key(scope: str, kind: str) -> tuple[str, str]:
    """The key of the item whose ``number`` is that of the newest incident of a kind."""
    return f"incident#{scope}", kind


def incident_item(incident: Incident) -> Item:
    """An incident; ``closed_at`` is absent while it is open. Times are epoch seconds."""
    item: Item = {
        "pk": INCIDENTS,
        "sk": incident_sort(incident.id),
        "scope": incident.scope,
        "kind": incident.kind.value,
        "opened_at": int(incident.opened_at.timestamp()),
        "total": incident.total,
    }
    if incident.closed_at is not None:
        item["closed_at"] = int(incident.closed_at.timestamp())
    return item


def incident_of(item: Mapping[str, Value]) -> Incident:
    """An incident as it is stored; raises DamagedState."""
    try:
        nth, kind = number_in(item, "sk"), IncidentKind(text(item, "kind"))
    except ValueError:
        raise DamagedState(DAMAGED) from None
    closed = moment(number(item, "closed_at")) if "closed_at" in item else None
    return Incident(nth, text(item, "scope"), kind, moment(number(item, "opened_at")), number(item, "total"), closed)


# Answers that the API may have to repeat: state table.


def answered_key(name: bytes) -> tuple[str, str]:
    """The key of an answer. Gone once ``expires`` (epoch seconds) has passed."""
    return f"answered#{name.hex()}", "answer"


def answered_item(answered: Answered, expires: int) -> Item:
    """An answer. ``kept_at``: epoch seconds."""
    pk, sk = answered_key(answered.name)
    kept_at = int(answered.at.timestamp())
    return {
        "pk": pk,
        "sk": sk,
        "request": answered.request,
        "answer": answered.answer,
        "kept_at": kept_at,
        "expires": expires,
    }


def answered_of(item: Mapping[str, Value]) -> Answered:
    """An answer as it is stored; raises DamagedState."""
    return Answered(
        bytes_in(item, "pk", "answered#"), raw(item, "request"), raw(item, "answer"), moment(number(item, "kept_at"))
    )


def notice_key(sha256_: str) -> tuple[str, str]:
    """The key of a notice's text, in the ledger table."""
    return f"notice#{sha256_}", "text"
