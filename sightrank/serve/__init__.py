"""The reranker over HTTP: other services' routes, one engine behind them."""
