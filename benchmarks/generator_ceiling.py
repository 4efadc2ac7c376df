"""One generator core against a null server, side by side: the lab's users, Locust's FastHttpUser, wrk; and how late the lab dispatches at 1,000/s.

uv run benchmarks/generator_ceiling.py [SECONDS]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started as a script, it would not find the lab

from benchmarks.schedule_fidelity import RATE_PER_S, fidelity
from lab.observe.machine import capture
from lab.processes import Guard
from lab.selftest.ceiling import measure

SECONDS = 5.0


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    machine = capture({})
    with Guard() as guard:
        rates = measure(guard, seconds)
        lags = fidelity(guard, seconds)
    print(f"{machine.cpu_model}, {machine.cores} cores, {machine.python}, locust {machine.packages['locust']}")
    for name, rate in rates.items():
        print(f"{name:>16} {rate:>10,.0f}/s   lab is {rates['lab'] / rate:.2f} x")
    if "wrk" not in rates:
        print(f"{'wrk':>16} is not on the PATH")
    for name, (p50_ms, p99_ms) in lags.items():
        print(f"{name:>16} p50 {p50_ms:.3f} ms, p99 {p99_ms:.3f} ms at {RATE_PER_S:,.0f}/s")


if __name__ == "__main__":
    main()
