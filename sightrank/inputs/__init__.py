"""From files and strings to token ids, positions and patches. CPU only: numpy, never torch."""
