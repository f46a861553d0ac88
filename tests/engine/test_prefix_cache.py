"""Documents in memory: what goes, what stays, and what a GPU's machine keeps for it."""

from __future__ import annotations

import random
import threading

import pytest
import torch

from sightrank.engine.plans import CachedPrefix
from sightrank.engine.prefix_cache import PrefixCache

BYTES = 64
"""Of one prefix of one token."""


def prefix(tokens: int, value: float = 0.0) -> CachedPrefix:
    keys = torch.full((2, tokens, 1, 4), float(value))
    return CachedPrefix(keys, -keys)


def test_the_least_recently_used_goes_first() -> None:
    cache = PrefixCache(2 * BYTES)
    for name in "ab":
        cache.put(name, prefix(1))
    assert cache.get("a") is not None
    cache.put("c", prefix(1))
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]
    assert cache.num_bytes == 2 * BYTES


def test_what_is_evicted_comes_back_from_the_host_as_it_was() -> None:
    cache = PrefixCache(2 * BYTES, PrefixCache(10 * BYTES))
    for number in range(6):
        cache.put(str(number), prefix(1, number))
    assert cache.host is not None
    assert (cache.num_bytes, cache.host.num_bytes, len(cache)) == (2 * BYTES, 4 * BYTES, 6)
    for number in range(6):
        found = cache.get(str(number))
        assert found is not None
        assert torch.equal(found.keys, prefix(1, number).keys)
        assert torch.equal(found.values, prefix(1, number).values)
    assert cache.num_bytes + cache.host.num_bytes == 6 * BYTES


def test_what_is_too_large_for_the_device_may_fit_the_host() -> None:
    cache = PrefixCache(2 * BYTES, PrefixCache(4 * BYTES))
    cache.put("large", prefix(3, 1.0))
    cache.put("huge", prefix(5))
    assert cache.get("huge") is None
    found = cache.get("large")
    assert found is not None and found.num_tokens == 3
    assert len(cache) == 1 and cache.num_bytes == 0


def test_shedding_keeps_what_the_host_has_room_for() -> None:
    cache = PrefixCache(4 * BYTES, PrefixCache(2 * BYTES))
    for name in "abcd":
        cache.put(name, prefix(1))
    cache.shed()
    assert cache.num_bytes == 0
    assert [cache.get(name) is not None for name in "abcd"] == [False, False, True, True]
    cache.clear()
    assert len(cache) == 0


def test_a_document_is_in_one_place_and_every_byte_is_counted() -> None:
    chance = random.Random(0)
    host = PrefixCache(7 * BYTES)
    cache = PrefixCache(5 * BYTES, host)
    for _ in range(2000):
        name, act = chance.choice("abcdefgh"), chance.random()
        if act < 0.5:
            cache.put(name, prefix(chance.randrange(1, 7)))
        elif act < 0.9:
            cache.get(name)
        elif act < 0.97:
            cache.drop(name)
            assert cache.get(name) is None
        else:
            cache.shed()
        for tier in (cache, host):
            sizes = [each.num_bytes for each in tier._entries.values()]
            assert tier.num_bytes == sum(sizes) <= tier.max_bytes
        assert not cache._entries.keys() & host._entries.keys()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_host_keeps_what_a_gpu_evicts() -> None:
    host = PrefixCache(4 * BYTES)
    cache = PrefixCache(BYTES, host)
    for number in range(3):
        cache.put(str(number), prefix(1, number).to(torch.device("cuda")))
    assert {each.keys.device.type for each in host._entries.values()} == {"cpu"}
    found = cache.get("0")
    assert found is not None and found.keys.is_cuda
    assert torch.equal(found.keys.cpu(), prefix(1, 0).keys)


def test_several_threads_leave_its_count_of_bytes_right() -> None:
    cache = PrefixCache(5 * BYTES, PrefixCache(3 * BYTES))
    wrong = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(2000):
            number = rng.randrange(12)
            found = cache.get(str(number))
            if found is None:
                cache.put(str(number), prefix(1, number))
            elif not torch.equal(found.keys, prefix(1, number).keys):
                wrong.append(number)
            if rng.random() < 0.01:
                cache.shed()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.host is not None and not wrong
    assert cache.num_bytes + cache.host.num_bytes == len(cache) * BYTES
    assert cache.num_bytes <= 5 * BYTES and cache.host.num_bytes <= 3 * BYTES
