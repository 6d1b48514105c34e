"""Stateful stand-ins for the ESPs, served over HTTP, for the demo and the tests. They hold no product logic."""
