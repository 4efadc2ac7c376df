"""One request and what became of it."""

from typing import NamedTuple

from lab.generator.heads import Head
from lab.model import OUTCOMES

OK, HTTP_ERROR, TIMEOUT, RESET, REFUSED, CENSORED, BAD_FRAMING = range(len(OUTCOMES))

# What ``Exchange.problem`` begins with; after it stand a colon and the details.
PROBLEM_REFUSED = "refused"
PROBLEM_NO_ACCEPT = "accept queue full or connect timed out"
PROBLEM_NOT_OPENED = "could not be opened"
PROBLEM_CLOSED_IDLE = "closed while idle"
PROBLEM_NO_ANSWER = "closed before the answer"
PROBLEM_CUT = "closed in the middle of the answer"
PROBLEM_TIMEOUT = "timeout"
PROBLEM_FRAMING = "bad framing"


class Exchange(NamedTuple):
    """One request and what became of it.  Times are CLOCK_MONOTONIC ns, 0 where it did not happen.

    ``sent_ns`` is taken before the first byte is sent.  Where a request had to be sent again it is that of the first try, so that
    the latency covers both; reopening a connection before sending is not part of it (it lies between dispatched and sent).
    ``first_byte_ns`` is the final answer's: interim answers (103) do not count.  ``outcome`` of an answer is ``OK`` for 2xx, else
    ``HTTP_ERROR``; who expects other statuses decides anew.  ``problem`` begins with one of the ``PROBLEM_`` words, or is empty.
    """

    sent_ns: int
    first_byte_ns: int
    done_ns: int
    outcome: int
    reused: int
    head: Head
    head_block: bytes
    body: bytes
    problem: str = ""
