"""CPU time at the speed of the machine's best moment: what a neighbour on the host added is taken off again.

A neighbour on the sibling of a core slows it (by up to four fifths on the machine of the published run) and CPU time grows with it.  The pulse, a
fixed computation on the target's own cores, grows alike: dividing by it leaves 6 % of spread where there were 25 %.
"""

from lab.record import TrialRecord

FEWEST = 3
"""Pulses from which their mean is one."""


def slowdown(record: TrialRecord, start_ns: int | None = None, end_ns: int | None = None) -> float | None:
    """By what factor the target's cores were slower than they can be, from 1 on; between two instants or all the time.

    None where the target shared its cores with the generator (a pulse does not say on which core it ran) or too few pulses were seen.
    """
    seen = record.pulse
    if seen is None or not record.affinity or seen.best_ns <= 0:
        return None
    took = [took for at, took in seen.rows if (start_ns is None or at >= start_ns) and (end_ns is None or at <= end_ns)]
    return max(1.0, sum(took) / len(took) / seen.best_ns) if len(took) >= FEWEST else None
