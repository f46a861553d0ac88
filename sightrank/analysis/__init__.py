"""What lies behind a score: why it is so, how far it can be trusted, which documents are alike."""
