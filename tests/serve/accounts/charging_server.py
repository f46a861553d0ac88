"""Charges a key for 120 requests, eight at a time, and prints each one that is answered.

A program of its own, for a test to kill: `python -m tests.serve.accounts.charging_server DATABASE KEY`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from sightrank.serve.access import Caller
from sightrank.serve.accounts import Accounts
from sightrank.serve.ledger import AlreadyChargedError
from sightrank.serve.limits import Limits, Policy


async def main(address: str, key_id: str) -> None:
    accounts = Accounts.open(address, Policy(Limits(0, 0, 0)))
    caller, places = Caller(key_id, "team"), asyncio.Semaphore(8)

    async def answer(number: int) -> None:
        async with places:
            request, tokens = f"r{number}", number + 1
            with contextlib.suppress(AlreadyChargedError):  # by a run before this one
                await accounts.reserve(caller, tokens, request)
            await accounts.settle(caller, tokens, request)
            print(request, tokens, flush=True)

    await asyncio.gather(*map(answer, range(120)))
    await accounts.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
