"""Measurements of the product's real paths against their peers; see README.md."""
