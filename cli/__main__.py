"""``python -m cli`` is ``pixelproof``."""

from cli.main import run

run()
