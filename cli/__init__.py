"""The ``pixelproof`` command, a module for each group of commands."""
