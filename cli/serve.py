"""``pixelproof serve``: the webhooks application."""

from __future__ import annotations

import gc
import logging
import sys
from typing import Annotated

import typer

from cli.output import Config, services
from cli.server_log import to_server_log
from core.logs import to_stderr

MOST_CONNECTIONS = 512
"""Above it requests are answered 503, which ESPs repeat. It leaves room below the 1,024 files that a process may have
open unless told otherwise: the ledger must still be written when somebody opens connections and does nothing."""

KEEP_ALIVE = 65
"""Seconds that a connection may be idle: longer than the 60 for which nginx and AWS's balancers keep theirs, so that
it is never this side that closes one on which a callback is just being sent (RFC 9112 §9.3.1)."""

GRACE = 5
"""Seconds that requests under way have when the server is to stop; then they are cut off, and ESPs repeat theirs. With
what is still to be written afterwards it stays below the 10 seconds after which Docker kills."""

BACKLOG = 2_048
"""Connections that wait to be accepted: when a campaign arrives, many mails are opened in the same second."""

Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int, typer.Option("--port", help="The port to listen on.", min=0, max=65535)]


def serve(host: Host = "127.0.0.1", port: Port = 8080, config: Config = None) -> None:
    """Serve callbacks, choices pages and pixels. One process for one ledger file."""
    import uvicorn

    from webhooks.app import create_app
    from webhooks.pixel_protocol import protocol

    log_as_json()
    to_server_log()
    with services(config) as s:
        app = create_app(s)
        gc.freeze()  # else each full collection looks at all that was imported, and every request waits for it
        uvicorn.run(
            app,
            host=host,
            port=port,
            # Also bounds the head of a request and the time for all of it, which uvicorn does not: its own
            # h11_max_incomplete_event_size holds for another parser than this one.
            http=protocol(app.pixel),
            ws="none",  # there are none, and a connection that became one would escape these limits
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            backlog=BACKLOG,
            # Nothing here asks who or how the client was: no header may make it somebody else.
            proxy_headers=False,
            server_header=False,
            # No access log: links and pixel paths in it would be somebody's.
            access_log=False,
            log_config=None,
            log_level="warning",
        )


def log_as_json(level: int = logging.INFO) -> None:
    """Structured logs, one JSON object a line, on stderr."""
    import structlog

    to_stderr(level)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
