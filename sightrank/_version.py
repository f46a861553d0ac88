"""The version, read by the build and the command line without importing anything else."""

VERSION = "0.1.0"
