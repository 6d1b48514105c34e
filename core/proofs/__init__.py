"""Proof records of third parties: how they are read, what is known about them, and what becomes of them (§6)."""
