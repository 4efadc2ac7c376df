"""One generator core against a null server: the lab's users, Locust's FastHttpUser, wrk.  ``uv run -m benchmarks.generator_ceiling``"""

from lab.environment import capture
from lab.processes import Guard
from lab.selftest.ceiling import measure

SECONDS = 5.0


def main() -> None:
    machine = capture({})
    with Guard() as guard:
        rates = measure(guard, SECONDS)
    print(f"{machine.cpu_model}, {machine.cores} cores, {machine.python}, locust {machine.packages['locust']}")
    for name, rate in rates.items():
        print(f"{name:>16} {rate:>10,.0f}/s   lab is {rates['lab'] / rate:.2f} x")


if __name__ == "__main__":
    main()
