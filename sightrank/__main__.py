"""`python -m sightrank` is the command `sightrank`."""

from sightrank.cli import main

main()
