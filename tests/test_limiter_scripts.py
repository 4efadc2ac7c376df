"""The scripts of rate_limiting/algorithms under random and hostile clients on a clock of ours: never more than the bound in any window.

The bounds are those of the scenario's claims; that each is reached, too, is shown once with the clients that reach it.
"""

import ast
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from lab.services.supervisor import Services

FOLDER = Path(__file__).resolve().parent.parent / "targets" / "rate_limiting" / "algorithms"
LIMIT, WINDOW_S, BURST = 20, 3, 5
WINDOW_US = WINDOW_S * 1_000_000
BOUNDS = {
    "naive": 2 * LIMIT,
    "sliding_counter": 2 * LIMIT - 1,
    "token_bucket": 2 * LIMIT - 1,
    "gcra": LIMIT + BURST - 1,
    "correct": LIMIT,
}
SLACK_US = 10  # numbers in Redis are decimal strings: a token may be whole some microseconds early
START_US = 1_800_000_000 * 1_000_000  # a window begins here


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with Services({"redis"}, log_folder=tmp_path_factory.mktemp("logs")) as up:
        assert up.redis is not None
        with redis.Redis.from_url(up.redis.url) as client:
            yield client


def constants_of(variant: str) -> dict[str, object]:
    """The module constants of a variant."""
    found: dict[str, object] = {}
    for node in ast.parse((FOLDER / f"{variant}.py").read_text()).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            found[node.targets[0].id] = node.value.value
    return found


def admitted(store: redis.Redis, variant: str, times_us: list[int]) -> list[int]:
    """Those of the times at which the variant's script lets a request through."""
    script = str(constants_of(variant)["SCRIPT"])
    assert script.count("redis.call('TIME')") == 1
    script = script.replace("redis.call('TIME')", "{tonumber(ARGV[4]), tonumber(ARGV[5])}")
    store.flushdb()
    pipe = store.pipeline(transaction=False)
    for number, at in enumerate(times_us):
        third = BURST if variant == "gcra" else number
        pipe.eval(script, 1, "key", LIMIT, WINDOW_S, third, at // 1_000_000, at % 1_000_000)
    return [at for at, wait in zip(times_us, pipe.execute(), strict=True) if wait == 0]


def most(times_us: list[int]) -> int:
    """The most of them in any stretch of a window's length."""
    begin = best = 0
    for end, at in enumerate(times_us):
        while at - times_us[begin] >= WINDOW_US - SLACK_US:
            begin += 1
        best = max(best, end - begin + 1)
    return best


def client(rng: random.Random) -> list[int]:
    """A client that mixes bursts, polling, pauses, and moments just before and after the edge of a window."""
    at, times = START_US, []
    for _ in range(rng.randint(4, 14)):
        match rng.randrange(4):
            case 0:
                gaps = [rng.randint(1, 200) for _ in range(rng.randint(1, 2 * LIMIT))]
            case 1:
                gaps = [rng.randint(5_000, 60_000) for _ in range(rng.randint(1, 3 * LIMIT))]
            case 2:
                gaps = [rng.randint(1, 2 * WINDOW_US)]
            case _:
                gaps = [WINDOW_US - at % WINDOW_US + rng.choice((-3_000, -1, 0, 1))]
        for gap in gaps:
            at = max(at + 1, at + gap)
            times.append(at)
    return times


def test_the_constants_are_the_targets() -> None:
    for variant in BOUNDS:
        constants = constants_of(variant)
        assert (constants["LIMIT"], constants["WINDOW_S"]) == (LIMIT, WINDOW_S)
        assert constants.get("BURST", BURST) == BURST


@pytest.mark.parametrize("variant", BOUNDS)
def test_never_above_the_bound(store: redis.Redis, variant: str) -> None:
    for seed in range(60):
        times = client(random.Random(seed))
        assert most(admitted(store, variant, times)) <= BOUNDS[variant], f"client {seed}"


@pytest.mark.parametrize("variant", BOUNDS)
def test_the_bound_is_reached(store: redis.Redis, variant: str) -> None:
    burst = [START_US + WINDOW_US - 1_000 + number for number in range(LIMIT)]
    polls = [burst[-1] + step * 1_000 for step in range(1, WINDOW_S * 1_000)]
    assert most(admitted(store, variant, burst + polls)) == BOUNDS[variant]


@pytest.mark.parametrize("variant", BOUNDS)
def test_a_benign_client_is_never_refused(store: redis.Redis, variant: str) -> None:
    slot_us = WINDOW_US // (LIMIT - 1) + 1
    times = list(itertools.islice(itertools.count(START_US + 12_345, slot_us), 5 * LIMIT))
    assert admitted(store, variant, times) == times
