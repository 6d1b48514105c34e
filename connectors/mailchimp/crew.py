"""A few requests at a time, their answers handled one after the other.

Requests run in threads; what is done with an answer runs in the thread that owns the crew, so the state of a run is
touched by one thread alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from core.errors import ProviderError

T = TypeVar("T")

_Asked = Callable[[], Any]
_Then = Callable[[Any], None]


class Crew:
    """Runs requests. As a context: leaving it waits for those under way and drops those that wait.

    Args:
        size: Requests at a time.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._pool = ThreadPoolExecutor(size, thread_name_prefix="mailchimp")
        self._waiting: deque[tuple[_Asked, _Then]] = deque()
        self._running: dict[Future[Any], _Then] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def ask(self, request: Callable[[], T], then: Callable[[T], None]) -> None:
        """Have ``request`` run soon, and ``then`` called with what it answers; never calls either by itself."""
        self._waiting.append((request, then))
        self._start()

    def make_room(self) -> None:
        """Handle answers until no request waits any more. Raises what a request raised, at once."""
        while self._waiting:
            self._handle()

    def finish(self) -> None:
        """Handle answers until there is nothing left to do, and only then raise what a request raised first.

        So one removal that is refused does not stop the others.
        """
        first: ProviderError | None = None
        while self._running:
            try:
                self._handle()
            except ProviderError as error:
                first = first or error
        if first is not None:
            raise first

    def _start(self) -> None:
        while self._waiting and len(self._running) < self._size:
            request, then = self._waiting.popleft()
            self._running[self._pool.submit(request)] = then

    def _handle(self) -> None:
        """Wait for an answer and handle it; others that came meanwhile are handled next."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        answered = done.pop()
        then = self._running.pop(answered)
        self._start()
        then(answered.result())
