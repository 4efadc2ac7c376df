"""Workers share nothing: a client is admitted sum(min(L, requests that a worker sees)) times, W x L once each has seen L.

The connections are spread evenly over the workers, because a keep-alive connection stays with one worker (a single one is the
control: then the sum has one term).  One log in Redis, read and written by one script, admits L whatever W is.
"""

from locust import task

from lab.loadgen.users import LabUser
from lab.model import Chart, Claim, ClosedLoad, Condition, Probe, Scenario, Server, Stage, StagedLoad

LIMIT = 100  # requests; LIMIT in both targets
WINDOW_S = 60  # WINDOW_S in both targets: far longer than a load of about a second
PER_WORKER = 400  # requests per worker: four times what each must see, for a busy worker serves fewer


class Client(LabUser):
    @task
    def read_quote(self) -> None:
        self.get("/quotes/ACME", name="quote", headers={"X-API-Key": "one-client"})


def workers(count: int, *, quick_pairs: int | None = None, control: bool = False) -> Condition:
    """Twenty connections, spread evenly over ``count`` workers."""
    return Condition(
        f"{count} worker{'s' if count > 1 else ''}", ClosedLoad(20, requests=PER_WORKER * count, spread=count > 1),
        server=Server(workers=count), params={"workers": count, "spread": True}, quick_pairs=quick_pairs, control=control,
    )  # fmt: skip


def spread(condition: Condition) -> bool:
    """Whether the requests reach every worker."""
    return bool(condition.params["spread"])


SCENARIO = Scenario(
    title="A rate limiter that counts in the process",
    claim="W workers admit W x L: each of them keeps a counter of its own",
    parts=(4, 10),
    catalogue_ids=("rl-inprocess-workers", "rl-400-per-min"),
    services=("redis",),
    constants={"LIMIT": LIMIT, "WINDOW_S": WINDOW_S},
    conditions=(
        workers(1, quick_pairs=1, control=True),
        workers(2, quick_pairs=1),
        workers(4, quick_pairs=2),
        Condition(
            "one connection to 4 workers", ClosedLoad(1, requests=PER_WORKER), server=Server(workers=4),
            params={"workers": 4, "spread": False}, variants=("naive",), quick_pairs=1, control=True,
        ),
        Condition(
            "three rates", StagedLoad(tuple(Stage(rate, 1.0) for rate in (50.0, 300.0, 550.0)), connections=16),
            params={"workers": 1, "spread": True}, duet=True,
        ),
    ),
    probes=(
        Probe("/quotes/ACME", headers={"X-API-Key": "a-probe"}, body={"symbol": "ACME", "price_cents": 1999}),
        Probe("/quotes/ACME", status=422),
    ),
    claims=(
        Claim(
            "naive_admitted", "harm", "W workers admit W x L", "naive.status_count[200]",
            predict=lambda c: LIMIT * (c.workers if spread(c) else 1), tolerance=0.0,
            formula="sum over workers of min(L, requests seen) = W L", source="parts 4 and 10; claims rl-inprocess-workers",
            headline="4 workers",
        ),
        Claim(
            "every_worker", "mechanism", "every worker saw at least L requests", "naive.requests_per_pid_min", relation="at_least",
            predict=lambda c: LIMIT if spread(c) else None, tolerance=0.0,
            formula="L", source="without it the sum falls short of W L", headline="4 workers",
        ),
        Claim(
            "own_limit", "mechanism", "each worker grants exactly its own L", "naive.ok_per_pid_min",
            predict=lambda c: LIMIT if spread(c) else None, tolerance=0.0,
            formula="min(L, requests seen) = L", source="processes share nothing", headline="4 workers",
        ),
        Claim(
            "correct_admitted", "fix", "one log in Redis admits L whatever W is", "correct.status_count[200]",
            predict=lambda c: LIMIT if spread(c) else None, tolerance=0.0,
            formula="L", source="Redis runs a script whole", headline="4 workers",
        ),
        Claim(
            "correct_errors", "fix", "nothing but 200 and 429 is answered", "correct.responses_5xx",
            predict=lambda c: 0.0 if spread(c) else None, tolerance=0.0,
            formula="0", source="the pool waits for a connection instead of raising", headline="4 workers",
        ),
        Claim(
            "round_trips", "tax", "every request makes one round trip to Redis", "correct.redis_calls_per_request[evalsha]",
            predict=lambda c: 1.0 if spread(c) and not c.duet else None, tolerance=0.0,
            formula="1", source="one script for each decision", headline="4 workers",
        ),
        Claim(
            "cpu", "tax", "the round trip at most triples the server's CPU for a request",
            "correct.cpu_marginal_s_per_request[server] / naive.cpu_marginal_s_per_request[server]", relation="at_most",
            predict=lambda c: 3.0 if c.label == "three rates" else None, null=1.0,
            formula="3", source="ours: redis-py takes about 0.1 ms a call, as much as a small route (claims fk-redis-200x)",
        ),
    ),
    charts=(
        Chart(
            "sweep", "status_count[200]", "The dictionary admits {naive_admitted:.0f} with four workers, Redis {correct_admitted:.0f}",
            x="workers", x_label="workers", y_label="requests admitted", conditions=("1 worker", "2 workers", "4 workers"),
            theory=("naive_admitted", "correct_admitted"),
        ),
        Chart(
            "counts", "status_count[200]", "One connection hides it: only one worker is asked",
            y_label="requests admitted", conditions=("4 workers", "one connection to 4 workers"), theory=("naive_admitted", "correct_admitted"),
        ),
        Chart("cpu", "cpu_s_per_request", "The fix costs a round trip: {cpu:.1f} times the CPU", conditions=("three rates",)),
    ),
    answer="With four workers a limit of 100 lets {naive_admitted:.0f} requests through (predicted {naive_admitted.predicted:.0f}); "
    "one log in Redis lets {correct_admitted:.0f} through, for {round_trips:.0f} round trip a request and {cpu:.1f} times the CPU.",
    disagrees_with_source="The source says four times the limit for four workers. That holds once every worker has seen the limit: "
    "a client that keeps one connection open is admitted exactly once the limit, because a connection stays with its worker.",
)  # fmt: skip
