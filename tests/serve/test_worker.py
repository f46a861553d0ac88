"""Requests scored together, in turns, cut in pieces, cancelled, and finished before the end."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from sightrank import Document, Query, Reranker
from sightrank.serve.errors import BusyError
from sightrank.serve.fair import FairQueue
from tests.serve.working import Job, Model, hold, score, working


def test_what_waits_together_runs_together() -> None:
    model = Model()
    with working(model) as worker:
        hold(worker, model)
        futures = [score(worker, key, key, 2) for key in "abc"]
        model.go.release(2)
        assert [future.result(10) for future in futures] == [[0.0]] * 3
        assert model.passes[1] == [("a", 0, 1), ("b", 0, 1), ("c", 0, 1)]


def test_keys_take_turns_and_a_large_request_goes_in_pieces() -> None:
    model = Model()
    with working(model) as worker:
        hold(worker, model)
        many = [score(worker, "greedy", f"g{n}", *[5] * 8) for n in range(3)]
        small = score(worker, "modest", "m", 2)
        model.go.release(2)
        assert small.result(10) == [0.0]
        assert len(model.passes) == 2, "the small one waits for none of the large ones"
        model.go.release(1000)
        assert [future.result(10) for future in many] == [[float(n) for n in range(8)]] * 3
        runs = [(name, start) for passed in model.passes for name, start, _ in passed]
        assert len(set(runs)) == len(runs), "nothing is scored twice"
        assert all(stop - start <= 2 for passed in model.passes for _, start, stop in passed)


def test_the_wait_is_what_comes_first_at_the_speed_of_the_last_passes() -> None:
    model = Model()
    with working(model, budget=100) as worker:
        assert worker.seconds_before("a", 10**9) == 0, "nothing is known yet, and nothing waits"
        hold(worker, model)
        score(worker, "greedy", "g", *[50] * 20)
        left = score(worker, "gone", "l", 500)
        left.cancel()
        worker._line.tokens_a_second = 10.0
        assert worker.seconds_before("greedy", 10) == 100
        assert worker.seconds_before("modest", 10) == 1, "its turn comes after as much of another's"
        assert worker.seconds_before("modest", 5000) == 100


def test_who_has_left_is_not_scored() -> None:
    model = Model()
    with working(model) as worker:
        hold(worker, model)
        left, stays = score(worker, "a", "left", 1), score(worker, "a", "stays", 1)
        assert left.cancel()
        model.go.release(2)
        assert stays.result(10) == [0.0]
    assert all(name != "left" for passed in model.passes for name, _, _ in passed)


def test_who_leaves_between_pieces_is_not_scored_on() -> None:
    model = Model()
    with working(model) as worker:
        future = score(worker, "a", "long", *[10] * 5)
        model.started.acquire()
        assert future.cancel()
        model.go.release(1)
        after = score(worker, "a", "after", 1)
        model.go.release(10)
        assert after.result(10) == [0.0]
    assert [name for passed in model.passes for name, _, _ in passed] == ["long", "after"]


def test_one_that_fails_takes_nobody_with_it() -> None:
    model = Model()
    with working(model) as worker:
        hold(worker, model)
        good, bad, other = (score(worker, name, name, 1) for name in ("good", "bad", "other"))
        model.go.release(1000)
        assert good.result(10) == other.result(10) == [0.0]
        with pytest.raises(ValueError, match="bad"):
            bad.result(10)


def test_closing_finishes_what_was_accepted_and_takes_nothing_more() -> None:
    model = Model()
    with working(model) as worker:
        futures = [score(worker, "a", str(n), 9) for n in range(5)]
        reading = worker.read("a", list)
        closing = threading.Thread(target=worker.close)
        closing.start()
        while not worker.stopping:
            pass
        with pytest.raises(BusyError):
            score(worker, "a", "late", 1)
        model.go.release(1000)
        closing.join(10)
        assert not wait([*futures, reading], 0).not_done


def test_small_requests_of_many_keys_stay_whole_and_large_ones_do_not() -> None:
    model = Model()
    with working(model, budget=40) as worker:
        hold(worker, model)
        large = score(worker, "large", "large", *[2] * 20)
        small = [score(worker, f"key{n}", f"small{n}", 2, 2) for n in range(15)]
        model.go.release(1000)
        assert [future.result(10) for future in small] == [[0.0, 1.0]] * 15
        assert large.result(10) == [float(place) for place in range(20)]
    parts = [part for each in model.passes for part in each]
    assert sum(name.startswith("small") for name, _, _ in parts) == 15
    assert model.passes[1] == [("large", 0, 2), *((f"small{n}", 0, 2) for n in range(9))]


def test_the_end_of_a_pass_cuts_nothing() -> None:
    model = Model()
    with working(model, budget=40) as worker:
        hold(worker, model)
        futures = [score(worker, f"key{n}", f"{n}", 1, 2) for n in range(14)]
        model.go.release(1000)
        assert not wait(futures, 10).not_done
    assert model.passes[1:] == [[(f"{n}", 0, 2) for n in range(13)], [("13", 0, 2)]]


def test_reading_waits_while_what_was_read_fills_the_memory() -> None:
    model = Model()
    with working(model, waiting_bytes=10) as worker:
        first = worker.read("a", lambda: [Job("large", [1], num_bytes=50)])  # type: ignore[list-item]
        read = first.result(10)
        second = worker.read("a", list)
        assert not wait([second], 0.2).done
        worker.drop(read)
        assert second.result(10) == []


def test_calls_run_alone_and_are_not_starved() -> None:
    model = Model()
    with working(model) as worker:
        hold(worker, model)
        call = worker.run("z", lambda: len(model.passes))
        futures = [score(worker, f"key{n}", str(n), 9) for n in range(20)]
        model.go.release(1000)
        assert call.result(10) <= 3
        assert not wait(futures, 10).not_done


def test_turns_go_round() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(4):
        queue.put("a", number)
    queue.put("b", 10)
    queue.put(None, 20)
    taken = [queue.take()[1] for _ in range(4)]
    queue.put_back("a", 9, first=True)
    assert [*taken, *(queue.take()[1] for _ in range(len(queue)))] == [0, 10, 20, 1, 9, 2, 3]


@pytest.mark.parametrize("passes", [1, 2])
def test_scores_are_those_of_rank_whoever_else_asks(reranker: Reranker, passes: int) -> None:
    reranker.forget()
    sets = [
        ("sugar", [f"passage {n} " * (n + 1) for n in range(9)]),
        ("coal", ["one", "two", "passage 0 "]),
        ("sugar", ["three " * 60]),
    ]
    asked = [
        reranker.prepare(Query.text(query), [Document.text(text) for text in texts])
        for query, texts in sets
    ]
    with working(reranker.score_prepared, budget=64, passes=passes) as worker:
        futures = [worker.score(str(n), request) for n, request in enumerate(asked)]
        for future, (query, texts), request in zip(futures, sets, asked, strict=True):
            ranking = reranker.rank(query, texts)
            expected = [hit.logit for hit in sorted(ranking, key=lambda hit: hit.index)]
            assert future.result(60) == pytest.approx(expected, abs=1e-4)
            assert request.num_tokens == ranking.total_tokens
