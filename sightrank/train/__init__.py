"""Training a reranker on labelled groups of documents."""
