"""What others log while ``pixelproof serve`` runs: the server below it, the libraries, threads that fail.

Their messages and traces may repeat what somebody sent. So of each there is one line, in the form of all logs
(``core.logs``): the message's first line, the error's type, and the place in the program where it was raised.
"""

from __future__ import annotations

import logging
import re
import threading
import traceback

from core.logs import get_logger

_REPEATING = "asyncio"
"""Its messages show the objects that they are about: callbacks with their arguments, tasks with their results."""
_SHOWN = re.compile(r"[<('\":].*", re.DOTALL)

log = get_logger("pixelproof.server")


def to_server_log() -> None:
    """Send there what no logger of its own takes, and the errors that end a thread."""
    logging.lastResort = _Foreign(logging.WARNING)
    threading.excepthook = _thread_failed


class _Foreign(logging.Handler):
    """Takes the records of loggers without a handler."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        text = record.getMessage().strip().partition("\n")[0]
        if record.name.partition(".")[0] == _REPEATING:
            text = _SHOWN.sub("", text).strip()
        error = record.exc_info[1] if record.exc_info else None
        write = log.error if record.levelno >= logging.ERROR else log.warning
        write(text, logger=record.name, **_told(error))


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    log.error("a thread has failed", **_told(failure.exc_value))


def _told(error: BaseException | None) -> dict[str, str]:
    """An error's type and place, without its message."""
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return {"error": type(error).__name__, "at": place}
