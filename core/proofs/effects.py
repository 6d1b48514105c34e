"""What becomes of verdicts: entries in the ledger, and only where something changes.

A proven claim counts from the earlier of the two dates that the claim and its proof give, so that it undoes nothing
that the person decided since. What had been proven and is so no longer is invalidated one microsecond later, and what
is proven once more counts another microsecond later: whatever the person decided afterwards stands in either case. A
claim that was never proven is unproven by itself; that it was judged and rejected is told once, by an entry without a
date, which touches nothing that the person decided at whatever time (``core.consent.is_rejection``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from core.ledger import Ledger, Recording, idempotency_key
from core.model import Action, ConsentEvent, NoticeRef, PurposeId, RecipientId
from core.ports import Batch
from core.proofs.claims import SOURCE
from core.proofs.terms import instant_of
from core.proofs.workshop import Workshop

BATCH = 1_000

# ``said``: what was recorded last by a reconciliation about this claim. A withdrawal that cannot be otherwise relied on
# is a withdrawal all the same.
_EFFECT = """
CREATE OR REPLACE TABLE effect AS
WITH changed AS (
  SELECT verdict.recipient, verdict.purpose, verdict.verdict, verdict.record, verdict.collected_at,
    verdict.withdrawn_at, claim.claimed_at, claim.said, claim.said_at,
    CASE
      WHEN verdict.verdict = 'proven' THEN CASE WHEN claim.said IS DISTINCT FROM 'given' THEN 'given' END
      WHEN verdict.verdict IN ('malformed', 'tampered', 'withdrawn_at_partner') AND verdict.withdrawn_at IS NOT NULL
        THEN CASE WHEN claim.said IS DISTINCT FROM 'withdrawn' OR claim.said_at < verdict.withdrawn_at
          THEN 'withdrawn' END
      WHEN claim.said IS NULL OR claim.said = 'given' THEN 'invalidated'
    END AS action
  FROM verdict JOIN claim ON claim.number = verdict.claim
)
SELECT recipient, purpose, verdict, record, action,
  CASE action
    WHEN 'invalidated' THEN said_at + 1
    WHEN 'withdrawn' THEN CASE WHEN said = 'given' THEN greatest(withdrawn_at, said_at) ELSE withdrawn_at END
    WHEN 'given' THEN
      CASE WHEN said = 'invalidated' AND least(claimed_at, collected_at) // 1000000 = said_at // 1000000
        THEN greatest(least(claimed_at, collected_at), said_at + 1) ELSE least(claimed_at, collected_at) END
  END AS counts_from
FROM changed WHERE action IS NOT NULL
"""
_ROWS = """
SELECT effect.recipient, effect.action, effect.counts_from, effect.verdict, effect.purpose, digest.sha256,
  words.notice, words.notice_sha256
FROM effect LEFT JOIN digest ON digest.number = effect.record LEFT JOIN record ON record.number = effect.record
  LEFT JOIN words ON words.rowid + 1 = record.wording
ORDER BY effect.recipient, effect.action, effect.counts_from, effect.verdict, digest.sha256, effect.purpose
"""
_ONE_ENTRY = itemgetter(0, 1, 2, 3, 5)
WANTED = "SELECT record FROM effect WHERE record IS NOT NULL"
"""The records that entries refer to, by their numbers."""


@dataclass(frozen=True, slots=True)
class Effects:
    """Writes them for one partner."""

    ledger: Ledger
    partner: str
    now: datetime

    def plan(self, work: Workshop) -> dict[str, int]:
        """Make the table ``effect``; answers how many entries of each action are to be written."""
        work.run(_EFFECT)
        entries = "SELECT DISTINCT recipient, action, counts_from, verdict, record FROM effect"
        counts = work.run(f"SELECT action, count(*) FROM ({entries}) GROUP BY action").fetchall()  # noqa: S608 - no input
        return dict(sorted(counts))

    def write(self, work: Workshop, progress: Callable[[int], None]) -> int:
        """Append the entries, a thousand at a time; answers how many were new. Whatever was cut off can be repeated.

        Raises:
            StoreError: the ledger is out of reach.
        """
        appended, recordings = 0, self._recordings(work)
        while batch := list(islice(recordings, BATCH)):
            appended += sum(self.ledger.in_parts(self._append, batch))
            progress(len(batch))
        return appended

    def _append(self, batch: Batch, recordings: Sequence[Recording]) -> int:
        """Append what the ledger bears out: only a claim that it holds can be proven."""
        heads = batch.heads({recording.event.recipient for recording in recordings})
        sound = []
        for recording in recordings:
            event = recording.event
            head = heads.get(event.recipient)
            stands = [head.standings.get(purpose) if head else None for purpose in event.purposes]
            if event.action is not Action.GIVEN or all(standing and standing.claim for standing in stands):
                sound.append(recording)
        return self.ledger.record_in(batch, sound)

    def _recordings(self, work: Workshop) -> Iterator[Recording]:
        rows = (row for page in work.pages(_ROWS) for row in page)
        for _, same in groupby(rows, _ONE_ENTRY):
            yield self._recording(list(same))

    def _recording(self, rows: list[Any]) -> Recording:
        name, action, at, verdict, _, digest, notice, notice_digest = rows[0]
        recipient, purposes = RecipientId(name.bytes), tuple(PurposeId(row[4]) for row in rows)
        event = ConsentEvent(
            recipient=recipient,
            purposes=purposes,
            action=Action(action),
            received_at=self.now,
            occurred_at=instant_of(at) if at is not None else None,
            source=SOURCE,
            notice=_notice(notice, notice_digest) if action == Action.GIVEN else None,
            partner=self.partner,
            evidence=f"reconciliation: {verdict}",
            proof=digest,
        )
        said = (SOURCE, self.partner, recipient.hex(), *purposes, action, at)
        return Recording(event, (idempotency_key("|".join(map(str, said)), event.occurred_at),))


def _notice(version: str | None, digest: str | None) -> NoticeRef | None:
    """The notice that a record names; it is one that is known, or the claim would not be proven."""
    named, text = (version or "").strip(), (digest or "").strip().lower()
    return NoticeRef(named, None, text or None) if named else None
