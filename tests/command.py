"""`sightrank` run in this process."""

from __future__ import annotations

import pytest

from sightrank.cli import main


def status(*arguments: object) -> int:
    """The exit status of the command line."""
    with pytest.raises(SystemExit) as exit_info:
        main([str(argument) for argument in arguments])
    code = exit_info.value.code
    assert isinstance(code, int)
    return code
