"""Programs of others that tests check our work with."""

from __future__ import annotations

import subprocess


def openssl(*words: str) -> bytes:
    """Run openssl, which must end well; answers what it says."""
    done = subprocess.run(["openssl", *words], capture_output=True, check=False)  # noqa: S603, S607 - a test's own words
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout + done.stderr
