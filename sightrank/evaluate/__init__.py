"""Ranking quality on labelled sets. Sees models only through their scores; imports no torch."""
