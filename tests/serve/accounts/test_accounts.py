"""Who is admitted, what may be reserved, and what is charged."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import event

from sightrank.errors import OptionError
from sightrank.serve.access import (
    Access,
    AccessError,
    Caller,
    ConcurrencyError,
    InsufficientBalanceError,
    InvalidFormatError,
    InvalidKeyError,
    MissingKeyError,
    RequestRateError,
    TokenRateError,
)
from sightrank.serve.accounts import Accounts
from sightrank.serve.database import Database
from sightrank.serve.keys import Key, Keys
from sightrank.serve.ledger import AlreadyChargedError, Ledger, Usage
from sightrank.serve.limits import Limits, Policy

FREE = Limits(0, 0, 0)
"""No limit at all."""


@dataclass
class Office:
    """Accounts with a clock of their own, driven step by step."""

    database: Database
    now: float = 1_000_000.0
    policy: Policy = field(default_factory=lambda: Policy(FREE, hold_seconds=30))

    def __post_init__(self) -> None:
        self.keys = Keys(self.database, lambda: self.now)
        self.ledger = Ledger(self.database, self.policy, lambda: self.now)
        self.accounts = Accounts(self.database, self.policy, lambda: self.now)

    def key(self, tokens: int = 1000, limits: Limits | None = None) -> Caller:
        key, self.secret = self.keys.create("team", tokens, limits)
        return Caller(key.id, key.name)

    def __call__(self, step: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(step)

    def reserve(self, caller: Caller, tokens: int, request: str) -> None:
        self(self.accounts.reserve(caller, tokens, request))

    def settle(self, caller: Caller, tokens: int, request: str) -> None:
        self(self.accounts.settle(caller, tokens, request))

    def release(self, caller: Caller, request: str) -> None:
        self(self.accounts.release(caller, request))

    def found(self, caller: Caller) -> Key:
        return next(key for key in self.keys.listed() if key.id == caller.key_id)

    def usage(self, caller: Caller) -> Usage:
        return self.ledger.usage(caller.key_id or "")


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    made = Office(database)
    yield made
    asyncio.run(made.accounts.close())


def limited(database: Database, **limits: int) -> Office:
    return Office(database, policy=Policy(Limits(**{**FREE.given(), **limits}), hold_seconds=30))


def test_it_is_what_the_server_asks_for(office: Office) -> None:
    access: Access = office.accounts
    caller = office.key()
    assert office(access.admit(f"Bearer {office.secret}")) == caller
    assert office(access.admit(f"bearer   {office.secret} ")) == caller


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (None, MissingKeyError),
        ("", MissingKeyError),
        ("Bearer", InvalidFormatError),
        ("Bearer  ", InvalidFormatError),
        ("Basic dXNlcjpwYXNz", InvalidFormatError),
        ("sr_without_a_scheme", InvalidFormatError),
        ("Bearer sr_wrong", InvalidKeyError),
        ("Bearer sr_" + "A" * 43, InvalidKeyError),
        ("Bearer " + "x" * 100_000, InvalidKeyError),
        ("Bearer sr_\xff\x00\ud800", InvalidKeyError),
        ("Bearer ' OR 1=1 --", InvalidKeyError),
    ],
)
def test_who_is_not_admitted(office: Office, header: str | None, error: type[AccessError]) -> None:
    office.key()
    with pytest.raises(error) as caught:
        office(office.accounts.admit(header))
    assert caught.value.status == 401 and caught.value.hint and caught.value.retry_after is None
    assert type(caught.value) is error


def test_nothing_tells_a_revoked_key_from_a_wrong_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same statements, comparisons and words: so the same time, as far as code can see to it."""
    caller = office.key()
    right, wrong = office.secret, "sr_" + "B" * 43
    almost = right[:-1] + ("A" if right[-1] != "A" else "B")
    office.keys.revoke(caller.key_id or "")
    seen: list[str] = []
    real = hmac.compare_digest

    def compare(one: str, other: str) -> bool:
        seen.append(f"compare {len(one)} {len(other)}")
        return real(one, other)

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)

    monkeypatch.setattr("hmac.compare_digest", compare)
    event.listen(office.database._engine, "before_cursor_execute", note)
    ways = []
    for secret in (right, wrong, almost, "short"):
        seen.clear()
        with pytest.raises(InvalidKeyError) as caught:
            office(office.accounts.admit(f"Bearer {secret}"))
        ways.append((tuple(seen), str(caught.value), caught.value.code))
    assert len(set(ways)) == 1
    assert any("compare 64 64" in step for step in ways[0][0])


def test_a_charge_is_what_was_used(office: Office) -> None:
    caller = office.key(1000)
    office.reserve(caller, 300, "r1")
    assert office.usage(caller) == Usage(1, 300, 1, 300)
    assert office.found(caller).balance == 1000, "a reservation is no charge"
    office.now += 5
    office.settle(caller, 250, "r1")
    assert office.usage(caller) == Usage(1, 250, 0, 0)
    key = office.found(caller)
    assert (key.used, key.balance, key.requests, key.last_used_at) == (250, 750, 1, office.now)


def test_settling_again_changes_nothing(office: Office) -> None:
    caller = office.key()
    office.reserve(caller, 10, "r1")
    for tokens in (10, 10, 999):
        office.settle(caller, tokens, "r1")
    assert (office.found(caller).used, office.found(caller).requests) == (10, 1)


def test_an_id_that_was_charged_is_not_reserved_again(office: Office) -> None:
    caller, other = office.key(), office.key()
    office.settle(caller, 10, "r1")
    with pytest.raises(AlreadyChargedError, match="its own id") as caught:
        office.reserve(caller, 10, "r1")
    assert caught.value.status == 409
    office.reserve(other, 10, "r1")
    office.settle(other, 20, "r1")
    assert (office.found(caller).used, office.found(other).used) == (10, 20), (
        "ids are each key's own"
    )


def test_releasing_gives_back_what_was_not_charged(office: Office) -> None:
    caller = office.key(100)
    office.reserve(caller, 100, "r1")
    office.release(caller, "r1")
    office.release(caller, "r1")
    office.release(caller, "never reserved")
    assert office.usage(caller) == Usage(1, 0, 0, 0)
    office.reserve(caller, 100, "r2")
    office.settle(caller, 100, "r2")
    office.release(caller, "r2")
    assert office.found(caller).used == 100, "what is charged stays charged"


def test_reserving_again_holds_the_new_amount(office: Office) -> None:
    caller = office.key(100)
    for tokens in (60, 90, 70):
        office.reserve(caller, tokens, "r1")
    assert office.usage(caller) == Usage(1, 70, 1, 70)


def test_work_that_was_done_is_charged_whatever_became_of_its_reservation(office: Office) -> None:
    caller = office.key(100)
    office.settle(caller, 1, "never reserved")
    office.reserve(caller, 10, "released")
    office.release(caller, "released")
    office.settle(caller, 10, "released")
    office.reserve(caller, 20, "late")
    office.now += 1000
    office.settle(caller, 20, "late")
    office.reserve(caller, 30, "revoked")
    office.keys.revoke(caller.key_id or "")
    office.settle(caller, 30, "revoked")
    assert (office.found(caller).used, office.found(caller).requests) == (61, 4)


def test_a_reservation_holds_tokens_and_a_place_until_its_time_is_over(database: Database) -> None:
    office = limited(database, concurrency=1)
    caller = office.key(100)
    office.reserve(caller, 100, "of a server that died")
    office.now += 29.999
    with pytest.raises(InsufficientBalanceError):
        office.reserve(caller, 1, "r2")
    office.now += 0.001
    office.reserve(caller, 100, "r2")
    assert office.found(caller).used == 0


@pytest.mark.parametrize(
    ("left", "asked", "passes"), [(100, 100, True), (100, 101, False), (0, 0, False)]
)
def test_the_balance_must_cover_what_is_asked(
    office: Office, left: int, asked: int, passes: bool
) -> None:
    caller = office.key(left)
    if passes:
        office.reserve(caller, asked, "r1")
        return
    with pytest.raises(InsufficientBalanceError, match="keys grant") as caught:
        office.reserve(caller, asked, "r1")
    assert (caught.value.status, caught.value.code) == (403, "AUTHZ_INSUFFICIENT_BALANCE")
    assert office.usage(caller) == Usage(0, 0, 0, 0), "what is refused leaves no line"


def test_who_has_nothing_left_is_not_admitted_until_more_is_granted(office: Office) -> None:
    caller = office.key(10)
    office.settle(caller, 25, "took more than it had")
    assert office.found(caller).balance == -15
    with pytest.raises(InsufficientBalanceError):
        office(office.accounts.admit(f"Bearer {office.secret}"))
    office.keys.grant(caller.key_id or "", 16)
    assert office(office.accounts.admit(f"Bearer {office.secret}")) == caller


def test_requests_a_minute(database: Database) -> None:
    office = limited(database, requests_per_minute=3)
    caller = office.key()
    for number in range(3):
        office.reserve(caller, 1, f"r{number}")
        office.release(caller, f"r{number}")  # a request counts whatever became of it
        office.now += 10
    for step in (office.accounts.reserve(caller, 1, "r3"), _admit(office)):
        with pytest.raises(RequestRateError, match="3 requests a minute") as caught:
            office(step)
        assert (caught.value.status, caught.value.retry_after) == (429, 30.0)
    office.now += 30
    office.reserve(caller, 1, "r3")


def test_any_sixty_seconds_hold_the_limit(database: Database) -> None:
    """A sliding window: no two minutes' worth around the turn of a minute."""
    office = limited(database, requests_per_minute=5)
    caller = office.key(10**6)
    passed: list[float] = []
    for step in range(150):
        office.now += 2.3
        try:
            office.reserve(caller, 1, f"r{step}")
        except RequestRateError:
            continue
        passed.append(office.now)
        office.release(caller, f"r{step}")
    windows = [sum(start <= time < start + 60 for time in passed) for start in passed]
    assert max(windows) == 5 and len(passed) >= 25


def test_tokens_a_minute(database: Database) -> None:
    office = limited(database, tokens_per_minute=100)
    caller = office.key()
    office.reserve(caller, 60, "r1")
    office.settle(caller, 50, "r1")
    office.now += 20
    office.reserve(caller, 50, "r2")
    with pytest.raises(TokenRateError, match="100 tokens a minute") as caught:
        office.reserve(caller, 1, "r3")
    assert (caught.value.status, caught.value.retry_after) == (429, 40.0)
    with pytest.raises(TokenRateError) as caught:
        office.reserve(caller, 51, "r3")
    assert caught.value.retry_after == 60.0, "both must have left"
    office.now += 40
    office.reserve(caller, 50, "r3")


def test_a_request_beyond_the_tokens_of_a_minute_runs_alone(database: Database) -> None:
    office = limited(database, tokens_per_minute=100)
    caller = office.key(10_000)
    office.reserve(caller, 500, "large")
    office.settle(caller, 500, "large")
    with pytest.raises(TokenRateError):
        office.reserve(caller, 1, "next")
    office.now += 60
    office.reserve(caller, 1, "next")


def test_requests_at_the_same_time(database: Database) -> None:
    office = limited(database, concurrency=2)
    caller = office.key()
    office.reserve(caller, 1, "r1")
    office.reserve(caller, 1, "r2")
    for step in (office.accounts.reserve(caller, 1, "r3"), _admit(office)):
        with pytest.raises(ConcurrencyError) as caught:
            office(step)
        assert (caught.value.status, caught.value.retry_after) == (429, 1.0)
    office.settle(caller, 1, "r1")
    office.reserve(caller, 1, "r3")


def test_a_keys_own_limits_hold_instead_of_the_servers(database: Database) -> None:
    office = limited(database, concurrency=1)
    caller = office.key(limits=Limits(concurrency=0))
    for number in range(5):
        office.reserve(caller, 1, f"r{number}")
    office.keys.limit(caller.key_id or "", Limits(concurrency=6))
    office.reserve(caller, 1, "r5")
    with pytest.raises(ConcurrencyError):
        office.reserve(caller, 1, "r6")


def test_one_keys_requests_do_not_count_for_another(database: Database) -> None:
    office = limited(database, concurrency=1, requests_per_minute=1, tokens_per_minute=1)
    for caller in (office.key(), office.key()):
        office.reserve(caller, 1, "r1")


def test_a_revoked_key_reserves_nothing(office: Office) -> None:
    caller = office.key()
    office.keys.revoke(caller.key_id or "")
    with pytest.raises(InvalidKeyError):
        office.reserve(caller, 1, "r1")


@pytest.mark.parametrize("request_id", ["", "x" * 201, "a\x00b", "a\nb"])
def test_an_id_that_a_database_cannot_hold_is_refused(office: Office, request_id: str) -> None:
    caller = office.key()
    with pytest.raises(OptionError, match="1 to 200 printable"):
        office.reserve(caller, 1, request_id)
    with pytest.raises(OptionError, match="tokens"):
        office.settle(caller, -1, "r1")


def test_who_was_never_admitted_is_charged_nothing(office: Office) -> None:
    with pytest.raises(MissingKeyError):
        office.settle(Caller(None, "anybody"), 1, "r1")
    with pytest.raises(InvalidKeyError):
        office.settle(Caller("key_none", "x"), 1, "r1")


def test_pruning_keeps_totals_and_recent_lines(office: Office) -> None:
    caller = office.key()
    office.settle(caller, 10, "old")
    office.now += 3 * 86_400
    office.settle(caller, 20, "new")
    assert office.keys.prune(2) == 1
    assert (office.found(caller).used, office.found(caller).requests) == (30, 2)
    office.settle(caller, 20, "new")
    assert office.found(caller).used == 30


def test_after_closing_every_step_is_a_typed_error(database: Database) -> None:
    office = Office(database)
    caller = office.key()
    asyncio.run(office.accounts.close())
    with pytest.raises(AccessError, match="closed") as caught:
        office.reserve(caller, 1, "r1")
    assert caught.value.status == 503


def _admit(office: Office) -> Coroutine[Any, Any, Caller]:
    return office.accounts.admit(f"Bearer {office.secret}")
