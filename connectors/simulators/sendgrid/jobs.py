"""What SendGrid does behind an accepted request (202): later, in the order in which it took the requests."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Outcome = dict[str, object]
"""What the job's status says once it has run."""

PENDING_FOR = 2
"""Requests from acceptance to execution: the next one still finds nothing done."""


@dataclass(slots=True)
class _Job:
    run: Callable[[], Outcome]
    due: int
    outcome: Outcome | None = None


class Jobs:
    """The account's jobs. Time is counted in requests, so that no test waits and no outcome depends on the machine.

    Attributes:
        pending_for: How many requests later a job runs; large to have it hang.
    """

    def __init__(self) -> None:
        self.pending_for = PENDING_FOR
        self._clock = 0
        self._jobs: dict[str, _Job] = {}
        self._waiting: deque[_Job] = deque()

    def add(self, run: Callable[[], Outcome]) -> str:
        """Take work in; answers the job's id."""
        job_id = str(uuid.uuid4())
        self._jobs[job_id] = job = _Job(run, self._clock + self.pending_for)
        self._waiting.append(job)
        return job_id

    def tick(self) -> None:
        """A request came in: run what is due, and nothing before what was accepted earlier."""
        self._clock += 1
        while self._waiting and self._waiting[0].due <= self._clock:
            self._run(self._waiting.popleft())

    def settle(self) -> None:
        """Run all that waits: time has passed."""
        while self._waiting:
            self._run(self._waiting.popleft())

    def known(self, job_id: str) -> bool:
        """Whether there is such a job."""
        return job_id in self._jobs

    def outcome(self, job_id: str) -> Outcome | None:
        """What came of a job; None while it waits."""
        return self._jobs[job_id].outcome

    @staticmethod
    def _run(job: _Job) -> None:
        job.outcome, job.run = job.run(), dict  # the work may hold thousands of contacts
