"""The layout of the wrapper's rows.  The target's process imports it too, under any Python: standard library only.

A worker's rows tile the time from its first row to its last: each begins where the one before ended.  Each row holds the spans between
the ticks of a 5 ms timer, which tile the row.  A tick that comes late closes a long span: the loop was busy with something else.
"""

TICK_NS = 5_000_000
ROW_NS = 100_000_000
TICKS = ROW_NS // TICK_NS
"""Spans that a row has room for.  A row ends with the first tick after ``ROW_NS``, or with the tick that fills it: a loop whose clock
has whole milliseconds (uvloop) may tick a little early."""
TICK_COLUMNS = tuple(f"tick_{i:02}_ns" for i in range(TICKS))

GOES_ON, SHUT_DOWN, UNWRITTEN, SILENT = range(4)
"""How a row ends.  More rows follow; the server shut this worker down; the rows after it could not be written; its loop did not come
back while the lab waited for it.  The lab adds the last two kinds when it reads the rows."""

NOT_WATCHED = -1
"""A peak of something that the wrapper does not know in this target."""

SERVER_COLUMNS = (
    "start_ns",
    "t_ns",
    "pid",
    "ending",
    "requests",
    "answered",
    "own",
    "in_flight",
    "loop_lag_max_ns",
    "threads_borrowed",
    "gc_pause_ns",
    "cpu_ns",
    "pool_checked_out",
    "pool_waiting",
    *TICK_COLUMNS,
)
SERVER_ROW_BYTES = 8 * len(SERVER_COLUMNS)
"""One row per worker and 100 ms in server.parquet, from ``start_ns`` to ``t_ns`` (CLOCK_MONOTONIC).

Totals of that worker so far: ``requests`` begun and ``answered`` (their last byte was handed to the server, or the app gave up), both of
the load alone; ``own``, requests that the lab sent besides; ``gc_pause_ns``, time in the collector; ``cpu_ns``.

Peaks within the row, taken where they happen: ``in_flight`` (requests of the load, begun and not yet answered) when a request begins;
``threads_borrowed`` of AnyIO's default limiter when a thread is borrowed, -1 where AnyIO keeps its borrowers in an unknown way;
``pool_checked_out`` when a connection is handed out and ``pool_waiting`` when a request begins to wait for one, -1 where the target uses
no pool that the wrapper knows.

``tick_*`` are the spans between ticks, 0 where the row had fewer; a span is late by what it has over ``TICK_NS``, and ``loop_lag_max_ns``
is the longest lateness in the row."""
