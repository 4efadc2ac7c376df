"""A router compares a path with its routes one after the other, and since FastAPI 0.137 once more for every level of include_router.

With U routes under L levels that hold all of them, and k in the innermost router: the last route costs D + U (L + 1) + k comparisons, where D
are FastAPI's own four.  Before 0.137 the routes were copied into the application: D + U at any nesting.  An unknown path is compared
again with another slash at its end: 2 (D + U), however deep, because no level is chosen.
"""

from locust import task

from lab.generator.users import LabUser
from lab.model import BeforeAfter, Chart, Claim, Condition, Journey, OpenLoad, Probe, Scenario, Survival
from lab.words.metrics import correct, each, naive
from lab.words.predictions import under

OWN = 4  # D: /openapi.json, /docs, /docs/oauth2-redirect and /redoc, before all others
PER_ROUTER = 2  # k: the list and the item of one resource
LEVELS = 2
HOT = "/api/v1/orders/7"
COMPARISON_S = 2.512e-3 / 808  # fastapi/fastapi issue 16159: a late one of 808 routes takes 2,512 us
REQUEST_S = 0.75e-3  # measured here: CPU of a request that compares eight paths, at 40 requests per second


class Counter(LabUser):
    """Reads for each kind of request how many paths the router compared."""

    def journey(self) -> None:
        last = f"/api/v1/report-{int(self.params['routes']) // PER_ROUTER - 2:03}/7"
        hot, worst = self.compared(HOT, 200), max(self.compared(HOT, 200), self.compared(last, 200))
        self.count("hot", hot)
        self.count("worst", worst)
        self.count("unknown", self.compared("/api/v1/nothing-here", 404))
        self.count("redirects", self.get("/api/v1/orders/", name="slash").status == 307)

    def compared(self, path: str, status: int) -> int:
        reply = self.get(path, name="counted")
        if reply.status != status:
            raise RuntimeError(f"{path}: {reply.status}, expected {status}")
        return int(reply.header("x-lab-matches"))


class Customer(LabUser):
    @task
    def read_order(self) -> None:
        self.get(HOT, name="order")


class Scanner(LabUser):
    @task
    def try_path(self) -> None:
        self.get(f"/wp-{self.rng.randrange(10**6)}.php", name="unknown")


class Steady(LabUser):
    """Reads the busiest route again and again; each answer must be the order that was asked for."""

    @task
    def read_order(self) -> None:
        number = self.rng.randrange(1, 1000)
        reply = self.get(f"/api/v1/orders/{number}", name="order")
        self.count("wrong", reply.status == 200 and reply.json() != {"resource": "orders", "id": number})


def scan_costs(condition: Condition) -> float:
    """How many times the CPU a request costs when all 500 routes are compared L + 1 times, over one that compares eight."""
    nested = OWN + int(condition.number("of")) * (LEVELS + 1) + PER_ROUTER
    return (REQUEST_S + nested * COMPARISON_S) / (REQUEST_S + (OWN + 2 * PER_ROUTER) * COMPARISON_S)


def env(routes: int, levels: int) -> dict[str, str]:
    """What the targets read: all but one of the resources are reports."""
    return {"REPORTS": str(routes // PER_ROUTER - 1), "LEVELS": str(levels)}


def counted(
    label: str,
    routes: int = 500,
    levels: int = LEVELS,
    *,
    fastapi: str = "",
    variants: tuple[str, ...] = ("naive",),
    quick: bool = True,
) -> Condition:
    """One user who asks for each kind of path once, with the comparisons counted."""
    flat = fastapi == "0.136.3"  # the last release that copied included routes
    return Condition(
        label,
        Journey(),
        user="Counter",
        observers=("matches",),
        env=env(routes, levels),
        variants=variants,
        quick=quick,
        quick_pairs=1,
        packages={"fastapi": fastapi} if fastapi else {},
        control=flat,
        params={"routes": routes, "levels": levels, "flat": flat},
    )


def timed(label: str, user: str, *, routes: int = 500, fastapi: str = "", quick: bool = True) -> Condition:
    """A steady rate that leaves the naive server half idle, nothing counted."""
    return Condition(
        label,
        OpenLoad(40.0, connections=8),
        user=user,
        env=env(routes, LEVELS),
        quick=quick,
        params={"asked": user, "of": routes},
        packages={"fastapi": fastapi} if fastapi else {},
    )


def last_route(condition: Condition) -> float | None:
    """Comparisons for the last route of the nested routers."""
    if "routes" not in condition.params:
        return None
    routes, levels = condition.number("routes"), condition.number("levels")
    return OWN + routes if condition.params["flat"] else OWN + routes * (levels + 1) + PER_ROUTER


def where(condition: Condition, value: float, variant: str = "naive") -> float | None:
    """``value`` where comparisons are counted for the variant."""
    return value if "routes" in condition.params and variant in condition.variants else None


def all_of_them(condition: Condition) -> float:
    """D + U."""
    return OWN + float(condition.params.get("routes", 0))


SCAN = "fastapi/routing.py: APIRouter.app and _IncludedRouter; FastAPI release notes, 0.137"
BOTH = ("naive", "correct")
OWN_CLAIM = ("1 level", "FastAPI 0.136.3", "FastAPI 0.137.2")  # conditions that have a claim of their own

SCENARIO = Scenario(
    title="Slow routing with many routes: nested include_router (FastAPI 0.137 and newer) scans them again and again",
    claim=(
        "With 500 routes under two levels of include_router, the last route costs 1,506 path comparisons since "
        "FastAPI 0.137; included once and first, 8"
    ),
    parts=(15,),
    catalogue_ids=(
        "fi-route-linear",
        "fi-include-router-double",
        "fi-404-double",
        "fk-include-router-free",
        "fk-trie-router",
    ),
    before_after=BeforeAfter(
        each.observed("hot"),
        "path comparisons for the busiest route",
        "500 routes",
        "An application has 500 routes under nested routers; the busiest was included last.",
    ),
    labels={"naive": "nested routers, orders last", "correct": "one level, orders first"},
    symptoms=(
        "slow routing",
        "many routes",
        "include_router slow",
        "FastAPI 0.137 slower",
        "matches in the profile",
        "404 flood",
        "redirect_slashes",
        "307 Temporary Redirect",
        "RecursionError: maximum recursion depth exceeded",
        "router order",
    ),
    conditions=(
        counted("FastAPI 0.136.3", fastapi="0.136.3"),
        counted("FastAPI 0.137.2", fastapi="0.137.2"),
        counted("10 routes", 10, variants=BOTH),
        counted("100 routes", 100, variants=BOTH, quick=False),
        counted("500 routes", 500, variants=BOTH),
        counted("800 routes", 800, variants=BOTH),
        counted("1 level", levels=1),
        counted("4 levels", levels=4),
        timed("orders", "Customer"),
        timed("orders among 10 routes", "Customer", routes=10, quick=False),
        timed("orders on FastAPI 0.136.3", "Customer", fastapi="0.136.3", quick=False),
        timed("unknown paths", "Scanner", quick=False),
    ),
    probes=(
        Probe(HOT, body={"resource": "orders", "id": 7}),
        Probe("/api/v1/report-000", body=[{"resource": "report-000", "id": 1}]),
        Probe("/api/v1/nothing-here", status=404),
        Probe("/api/v1/orders/5000", status=404),
    ),
    claims=(
        Claim(
            "hot",
            "harm",
            "the route that was added last is found after U (L + 1) comparisons",
            naive.observed("hot"),
            predict=lambda c: None if c.label in OWN_CLAIM else last_route(c),
            tolerance=0.0,
            formula="D + U (L + 1) + k",
            source=SCAN,
            headline="500 routes",
        ),
        Claim(
            "one_level",
            "mechanism",
            "one plain `include_router` doubles the scan",
            naive.observed("hot"),
            predict=under("1 level", value=last_route),
            tolerance=0.0,
            formula="D + 2 U + k",
            source=SCAN,
            headline="1 level",
        ),
        Claim(
            "before",
            "mechanism",
            "before FastAPI 0.137, nesting cost nothing",
            naive.observed("hot"),
            predict=lambda c: last_route(c) if c.params.get("flat") else None,
            tolerance=0.0,
            formula="D + U",
            source="included routes were copied into the application",
            headline="FastAPI 0.136.3",
        ),
        Claim(
            "since",
            "mechanism",
            "since FastAPI 0.137, each level scans again",
            naive.observed("hot"),
            predict=under("FastAPI 0.137.2", value=last_route),
            tolerance=0.0,
            formula="D + U (L + 1) + k",
            source="release notes 0.137: routers are no longer copied",
            headline="FastAPI 0.137.2",
        ),
        Claim(
            "unknown",
            "mechanism",
            "an unknown path is compared with everything twice",
            naive.observed("unknown"),
            predict=lambda c: where(c, 2 * all_of_them(c)),
            tolerance=0.0,
            formula="2 (D + U), at any nesting and before 0.137 too",
            source="starlette/routing.py: redirect_slashes",
            headline="500 routes",
        ),
        Claim(
            "cpu",
            "harm",
            "at 500 routes the scan is most of the CPU of a request",
            naive.cpu_server_s_per_request / correct.cpu_server_s_per_request,
            predict=under("orders", value=scan_costs),
            tolerance=0.4,
            null=1.0,
            formula="(a + 1,506 c) / (a + 8 c)",
            source="fastapi/fastapi issue 16159 for c (2,512 us for 808 routes), measured here for a (0.75 ms)",
            headline="orders",
        ),
        Claim(
            "hot_first",
            "fix",
            "included once and first, it is found after 8 comparisons",
            correct.observed("hot"),
            predict=lambda c: where(c, OWN + 2 * PER_ROUTER, "correct"),
            tolerance=0.0,
            formula="D + 2 k",
            source=SCAN,
            headline="500 routes",
        ),
        Claim(
            "unknown_once",
            "fix",
            "an unknown path is compared with everything once",
            correct.observed("unknown"),
            predict=lambda c: where(c, all_of_them(c), "correct"),
            tolerance=0.0,
            formula="D + U",
            source="redirect_slashes=False",
            headline="500 routes",
        ),
        Claim(
            "worst",
            "tax",
            "one route is always last: it still costs one scan of everything",
            correct.observed("worst"),
            predict=lambda c: where(c, all_of_them(c) + PER_ROUTER, "correct"),
            tolerance=0.0,
            formula="D + U + k",
            source="Starlette's router is a list",
            headline="500 routes",
        ),
        Claim(
            "redirects",
            "tax",
            "a path with a slash too many gets a 404 instead of a redirect",
            correct.observed("redirects"),
            predict=lambda c: where(c, 0, "correct"),
            tolerance=0.0,
            formula="0",
            source="redirect_slashes=False",
            headline="500 routes",
        ),
    ),
    charts=(
        Chart(
            "sweep",
            each.observed("hot"),
            "The busiest of 500 routes: {hot:,.0f} comparisons if nested and last, {hot_first:.0f} if first",
            x="routes",
            x_label="routes",
            y_label="paths compared for the busiest route",
            conditions=("10 routes", "100 routes", "500 routes", "800 routes"),
            theory=("hot", "hot_first"),
        ),
        Chart(
            "sweep",
            each.observed("hot"),
            "Each level of include_router adds a scan of all 500 routes",
            x="levels",
            x_label="levels of include_router",
            y_label="paths compared for the last route",
            conditions=("1 level", "500 routes", "4 levels"),
            theory=("one_level", "hot"),
        ),
        Chart(
            "counts",
            each.observed("hot"),
            "The same application needs {before:.0f} comparisons before FastAPI 0.137 and {since:,.0f} since",
            y_label="paths compared for the last route",
            conditions=("FastAPI 0.136.3", "FastAPI 0.137.2", "500 routes"),
            theory=("before", "since", "hot"),
        ),
        Chart(
            "cpu",
            each.cpu_s_per_request,
            "At 500 routes a nested route costs {cpu:.1f} times the CPU",
            conditions=("orders",),
        ),
    ),
    answer=(
        "The last of 500 routes under two levels of include_router costs {hot:,.0f} path comparisons, {before:.0f} "
        "before FastAPI 0.137; included once and first it costs {hot_first:.0f}. An unknown path costs "
        "{unknown:,.0f}, or {unknown_once:.0f} without the redirect of slashes."
    ),
    survival=Survival(
        user="Steady",
        answer_within_s=1.0,
        recover_within_s=3.0,
        ledger={"wrong": each.observed("wrong")},
        env={"REPORTS": "249", "LEVELS": "2"},
    ),
    disagrees_with_source=(
        "The source calls FastAPI a layer of microseconds over Starlette. The scan is Starlette's and linear, but "
        "since 0.137 the layer repeats it for every level, and each comparison takes longer. At 500 nested routes "
        "that is most of the CPU of a request."
    ),
)
