"""What others log while `serve` runs: a line of JSON each, with the type and the place of an error and no message."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

FAILING = """
import asyncio, gc, logging, threading
from cli.server_log import to_server_log
from core.logs import to_stderr

def fail(*_):
    raise ValueError("ada@example.com")

async def failing():
    fail()

async def main():
    asyncio.get_running_loop().call_soon(fail, "ada@example.com")
    task = asyncio.create_task(failing(), name="ada@example.com")
    await asyncio.sleep(0.01)
    del task
    gc.collect()

to_stderr()
to_server_log()
try:
    fail()
except ValueError as error:
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\\n", exc_info=error)
logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
logging.getLogger("uvicorn.error").info("not told")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
asyncio.run(main())
"""


def test_errors_are_told_without_what_they_say() -> None:
    """Of the server, of the event loop, of a task that nobody waited for, of a thread."""
    ended = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-c", FAILING], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert "ada@" not in ended.stdout + ended.stderr
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    told = [(line.get("logger"), line["event"], line["level"], line.get("error")) for line in lines]
    assert told == [
        ("uvicorn.error", "Exception in ASGI application", "error", "ValueError"),
        ("uvicorn.error", "Invalid HTTP request received.", "warning", None),
        (None, "a thread has failed", "error", "ValueError"),
        ("asyncio", "Exception in callback fail", "error", "ValueError"),
        ("asyncio", "Task exception was never retrieved", "error", "ValueError"),
    ]
    assert {line["at"] for line in lines if "error" in line} == {"<string>:7"}
