"""The page at `/`: try the model in a browser. Its files are named here, and no others are given."""
