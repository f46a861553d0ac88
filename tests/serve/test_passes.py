"""Several passes of the model at once: what they share, what stays alone, and the order of results."""

from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any

import torch

from sightrank.engine.threads import MOST_PASSES, Threads
from tests.serve.working import Model, Watch, hold, score, working


@dataclass
class Meeting:
    """Scores only when two passes are under way, if `together`; remembers how many there were."""

    together: bool = True
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: list[tuple[str, int]] = field(default_factory=list)
    most: int = 0
    most_tokens: int = 0
    twice: bool = False
    """Whether a request was in two passes at once."""

    def __call__(self, slices: Any) -> list[list[float]]:
        own = [(job.name, sum(job.costs[start:stop])) for job, start, stop in slices]
        with self.lock:
            self.inside += own
            self.most = max(self.most, len(self.inside))
            self.most_tokens = max(self.most_tokens, sum(tokens for _, tokens in self.inside))
            names = [name for name, _ in self.inside]
            self.twice |= len(set(names)) < len(names)
        if self.together:
            self.barrier.wait(10)
        with self.lock:
            for each in own:
                self.inside.remove(each)
        return [[float(place) for place in range(start, stop)] for _, start, stop in slices]


def test_two_requests_are_in_two_passes_at_once() -> None:
    with working(Meeting(), passes=2) as worker:
        futures = [score(worker, "a", name, 1) for name in "xy"]
        assert [future.result(10) for future in futures] == [[0.0], [0.0]]


def test_a_large_request_is_in_one_pass_at_a_time_and_its_scores_in_order() -> None:
    model = Meeting(together=False)
    with working(model, budget=4, passes=3) as worker:
        futures = [score(worker, key, key, *[1] * 40) for key in "abcd"]
        assert [future.result(10) for future in futures] == [[float(n) for n in range(40)]] * 4
    assert not model.twice


def test_all_passes_together_hold_no_more_than_one_might() -> None:
    model = Meeting(together=False)
    with working(model, budget=10, passes=4) as worker:
        futures = [score(worker, str(n), str(n), 7, 1, 1, 5, 2) for n in range(12)]
        assert not wait(futures, 10).not_done
    assert model.most_tokens <= 10


def test_a_document_larger_than_the_budget_waits_until_nothing_else_runs() -> None:
    model = Model()
    with working(model, budget=10, passes=2) as worker:
        hold(worker, model)
        large = score(worker, "b", "large", 50)
        assert not model.started.acquire(timeout=0.2)
        model.go.release()
        assert model.started.acquire(timeout=10), "now it starts"
        model.go.release()
        assert large.result(10) == [0.0]


def test_a_call_runs_alone() -> None:
    model = Model()
    with working(model, passes=2) as worker:
        hold(worker, model)
        started, ending = threading.Event(), threading.Event()

        def call() -> int:
            started.set()
            assert ending.wait(10)
            return len(model.passes)

        called = worker.run("a", call)
        after = score(worker, "b", "after", 1)
        assert not started.wait(0.2), "a pass is under way"
        model.go.release(10)
        assert started.wait(10)
        assert not model.started.acquire(timeout=0.2), "no pass beside a call"
        ending.set()
        assert (called.result(10), after.result(10)) == (1, [0.0])


def test_closing_finishes_what_several_passes_have_left() -> None:
    with working(Meeting(together=False), budget=3, passes=3) as worker:
        futures = [score(worker, str(n % 5), str(n), 2, 2, 2) for n in range(30)]
        calls = [worker.run("c", lambda: 1) for _ in range(3)]
        worker.close()
        assert not wait([*futures, *calls], 0).not_done
        assert all(future.result() == [0.0, 1.0, 2.0] for future in futures)


def test_who_leaves_between_the_passes_is_not_scored() -> None:
    model = Model()
    with working(model, passes=2) as worker:
        hold(worker, model), hold(worker, model)
        left, stays = score(worker, "a", "left", 1), score(worker, "a", "stays", 1)
        assert left.cancel()
        model.go.release(10)
        assert stays.result(10) == [0.0]
    assert all(name != "left" for passed in model.passes for name, _, _ in passed)


def test_a_pass_alone_has_the_processor_and_two_share_it() -> None:
    model = Model()
    shares: list[int] = []
    with working(model, passes=2, share=shares.append) as worker:
        hold(worker, model)
        second = hold(worker, model)
        assert shares == [1, 2]
        model.go.release(10)
        assert second.result(10) == [0.0]


def test_time_in_the_model_is_counted_once_however_many_passes_ran() -> None:
    watch, both = Watch(), threading.Barrier(2)

    def model(slices: Any) -> list[list[float]]:
        both.wait(10)
        time.sleep(0.1)
        return [[0.0] for _ in slices]

    start = time.perf_counter()
    with working(model, passes=2, watch=watch) as worker:
        wait([score(worker, "a", name, 1) for name in "xy"], 10)
    assert len(watch.passes) == 2
    assert sum(seconds for *_, seconds in watch.passes) <= time.perf_counter() - start


def test_a_thread_is_given_its_part_and_others_keep_theirs() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    torch.set_num_threads(4)
    try:
        threads = Threads(torch.device("cpu"))
        assert (threads.count, threads.passes) == (4, min(4, MOST_PASSES))
        assert Threads(torch.device("meta")).passes == 1

        def part() -> None:
            for passes in (1, 2, 3, 8, 1):
                threads.share(passes)
                seen.append(torch.get_num_threads())

        thread = threading.Thread(target=part)
        thread.start()
        thread.join()
        assert (seen, torch.get_num_threads()) == ([4, 2, 1, 1, 4], 4)
    finally:
        torch.set_num_threads(before)
