"""Waiting for an instant of CLOCK_MONOTONIC, as exactly as the hub allows; ending greenlets within a bound."""

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import gevent
from gevent.socket import wait_read

NS = 1_000_000_000
CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
TFD_NONBLOCK = 0o4000
monotonic_ns = time.monotonic_ns


def end(greenlets: Sequence[Any], within_s: float) -> list[Any]:
    """Kill them and wait so long; returns those that live on.  (``gevent.killall`` with a timeout raises where one does.)"""
    gevent.killall(greenlets, block=False)
    gevent.joinall(greenlets, timeout=within_s)
    return [one for one in greenlets if not one.dead]


class _ITimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Timer:
    """Waits until an instant of CLOCK_MONOTONIC: by a timerfd that the hub watches (Linux), else by sleeping.  Never a spin.

    Sleeping on the hub is 1 ms coarse; a timerfd is late by less than 0.1 ms at the median (docs/method.md section 1).
    """

    def __init__(self) -> None:
        self._fd = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._fd = self._libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)

    def wait_until(self, at_ns: int) -> None:
        """Return at ``at_ns`` or as soon after it as the hub allows."""
        if self._fd < 0:
            left = (at_ns - monotonic_ns()) / NS
            gevent.sleep(max(0.0, left))
            return
        if at_ns <= monotonic_ns():
            return
        spec = _ITimerSpec(0, 0, at_ns // NS, at_ns % NS)
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        wait_read(self._fd)
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
