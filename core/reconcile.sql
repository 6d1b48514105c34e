-- The rules by which a third party's claims are judged against the proof records that it delivered (§6).
--
-- One SELECT over plain tables. It runs on DuckDB; sqlglot carries it to Spark and Athena. Times are whole microseconds
-- since 1970 in UTC. No truth value is ever NULL but where it says so.
--
--   claim      number, recipient, purpose: what the ledger holds on this partner's word
--   record     number, recipient, sound, genuine, wording: a record as it was read, and
--              collected_at, confirmed_at, withdrawn_at: NULL where it does not say or cannot be read
--   wording    id, testimony, sound, genuine, purposes_readable, controller_named, notice_known, must_be_confirmed, and
--              notice_since (NULL: not known): what is known about the words of a record
--   covers     wording, purpose: the purposes that a wording names
--   repeated   recipient: those of whom there are several records
--   first_use  recipient, first_used_at: when the recipient was first sent a mail with an individual pixel
--   terms      expired_before (NULL: consents do not expire): one row
--
-- Each claim gets exactly one verdict, the first that applies:
--
--    1 malformed              a record cannot be read, or lacks what the partner must state
--    2 tampered               a hash or a signature is wrong
--    3 missing                there is no record of this recipient
--    4 withdrawn_at_partner   the person has withdrawn there
--    5 controller_not_named   the person was told of somebody else
--    6 purpose_not_covered    no record names this purpose
--    7 notice_unknown         nobody knows the text that the person was shown
--    8 collected_before_notice  the text did not exist then
--    9 collected_after_use    the recipient had been tracked before
--   10 not_confirmed          double opt-in was promised, and not done
--   11 expired                it is too old to be relied on, or to be shown
--   12 conflicting            several records agree to it, and disagree on the circumstances
--   13 proven
--
-- Of several records of one recipient those count that name the claim's purpose, or whose purposes nobody can read; where
-- there are none, all of them. The worst of them decides.

WITH judged AS (
  SELECT
    claim.number AS claim,
    claim.recipient,
    claim.purpose,
    repeated.recipient IS NOT NULL AS repeated,
    record.number AS record,
    record.collected_at,
    record.confirmed_at,
    record.withdrawn_at,
    wording.testimony,
    CASE
      WHEN record.number IS NULL OR covers.purpose IS NOT NULL OR NOT wording.purposes_readable THEN 0
      ELSE 100
    END AS beside_the_point,
    CASE
      WHEN record.number IS NULL THEN 3
      WHEN NOT record.sound OR NOT wording.sound THEN 1
      WHEN NOT record.genuine OR NOT wording.genuine THEN 2
      WHEN record.withdrawn_at IS NOT NULL THEN 4
      WHEN NOT wording.controller_named THEN 5
      WHEN covers.purpose IS NULL THEN 6
      WHEN NOT wording.notice_known THEN 7
      WHEN record.collected_at < wording.notice_since THEN 8
      WHEN record.collected_at > first_use.first_used_at THEN 9
      WHEN wording.must_be_confirmed AND record.confirmed_at IS NULL THEN 10
      WHEN wording.must_be_confirmed AND record.confirmed_at < record.collected_at THEN 10
      WHEN record.collected_at < terms.expired_before THEN 11
      ELSE 13
    END AS fault
  FROM claim
  CROSS JOIN terms
  LEFT JOIN record ON record.recipient = claim.recipient
  LEFT JOIN wording ON wording.id = record.wording
  LEFT JOIN covers ON covers.wording = record.wording AND covers.purpose = claim.purpose
  LEFT JOIN repeated ON repeated.recipient = claim.recipient
  LEFT JOIN first_use ON first_use.recipient = claim.recipient
),

-- A claim's records, weighed together. Only where all that count are without fault (13) can they be in conflict. Nearly
-- all claims have one record, or none: grouping those would take longer than everything else.
weighed AS (
  SELECT
    claim,
    recipient,
    purpose,
    beside_the_point + fault AS weight,
    (beside_the_point + fault) * 100000000000 + record AS weight_and_record,
    CASE WHEN beside_the_point = 0 THEN collected_at END AS collected_at,
    CASE WHEN beside_the_point = 0 THEN collected_at END AS last_collected_at,
    CASE WHEN beside_the_point = 0 THEN confirmed_at END AS confirmed_at,
    CASE WHEN beside_the_point = 0 THEN confirmed_at END AS last_confirmed_at,
    CASE WHEN beside_the_point = 0 THEN testimony END AS testimony,
    CASE WHEN beside_the_point = 0 THEN testimony END AS last_testimony,
    CASE WHEN beside_the_point = 0 THEN withdrawn_at END AS withdrawn_at,
    withdrawn_at AS withdrawn_at_all
  FROM judged
  WHERE NOT repeated
  UNION ALL
  SELECT
    claim,
    MIN(recipient) AS recipient,
    MIN(purpose) AS purpose,
    MIN(beside_the_point + fault) AS weight,
    -- Which record it was: the first of those with this weight.
    MIN((beside_the_point + fault) * 100000000000 + record) AS weight_and_record,
    MIN(CASE WHEN beside_the_point = 0 THEN collected_at END) AS collected_at,
    MAX(CASE WHEN beside_the_point = 0 THEN collected_at END) AS last_collected_at,
    MIN(CASE WHEN beside_the_point = 0 THEN confirmed_at END) AS confirmed_at,
    MAX(CASE WHEN beside_the_point = 0 THEN confirmed_at END) AS last_confirmed_at,
    MIN(CASE WHEN beside_the_point = 0 THEN testimony END) AS testimony,
    MAX(CASE WHEN beside_the_point = 0 THEN testimony END) AS last_testimony,
    MAX(CASE WHEN beside_the_point = 0 THEN withdrawn_at END) AS withdrawn_at,
    MAX(withdrawn_at) AS withdrawn_at_all
  FROM judged
  WHERE repeated
  GROUP BY claim
),

ruled AS (
  SELECT
    claim,
    recipient,
    purpose,
    CASE
      WHEN weight = 13 AND collected_at <> last_collected_at THEN 12
      WHEN weight = 13 AND confirmed_at <> last_confirmed_at THEN 12
      WHEN weight = 13 AND testimony <> last_testimony THEN 12
      WHEN weight > 100 THEN weight - 100
      ELSE weight
    END AS rank,
    weight_and_record - weight * 100000000000 AS record,
    collected_at,
    CASE WHEN weight > 100 THEN withdrawn_at_all ELSE withdrawn_at END AS withdrawn_at
  FROM weighed
)

SELECT
  claim,
  recipient,
  purpose,
  CASE rank
    WHEN 1 THEN 'malformed'
    WHEN 2 THEN 'tampered'
    WHEN 3 THEN 'missing'
    WHEN 4 THEN 'withdrawn_at_partner'
    WHEN 5 THEN 'controller_not_named'
    WHEN 6 THEN 'purpose_not_covered'
    WHEN 7 THEN 'notice_unknown'
    WHEN 8 THEN 'collected_before_notice'
    WHEN 9 THEN 'collected_after_use'
    WHEN 10 THEN 'not_confirmed'
    WHEN 11 THEN 'expired'
    WHEN 12 THEN 'conflicting'
    ELSE 'proven'
  END AS verdict,
  record,
  collected_at,
  withdrawn_at
FROM ruled
