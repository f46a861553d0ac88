"""Ranking quality on labelled sets."""
