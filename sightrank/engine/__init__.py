"""Scores without repeated work: a document is run once, its keys and values serve every query."""
