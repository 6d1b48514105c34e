"""``pixelproof serve``: the webhooks application."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from cli.output import Config, services

Host = Annotated[str, typer.Option("--host", help="The address to listen on.")]
Port = Annotated[int, typer.Option("--port", help="The port to listen on.", min=0, max=65535)]


def serve(host: Host = "127.0.0.1", port: Port = 8080, config: Config = None) -> None:
    """Serve callbacks, choices pages and pixels. One process for one ledger file."""
    import uvicorn

    from webhooks.app import create_app

    log_as_json()
    with services(config) as s:
        # No access log: links and pixel paths in it would be somebody's.
        uvicorn.run(create_app(s), host=host, port=port, access_log=False, log_level="warning", server_header=False)


def log_as_json(level: int = logging.INFO) -> None:
    """Structured logs, one JSON object a line, on stderr."""
    import structlog

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
