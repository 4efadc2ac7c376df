"""All errors of the lab in one place, each with the next step.

LabError
    UsageError          bad arguments, a broken gotcha           exit code 64
    ServiceError        PostgreSQL or Redis cannot be had        exit code 70
    ServerError         a target does not start, hangs or dies   a failed trial
    LoadError           the Locust child broke                   a failed trial
    NotHereError        what a condition needs cannot be had     a skipped trial
    StoreError          results cannot be written or read        exit code 70
"""


class LabError(Exception):
    """Something went wrong: ``str`` says what, where and the value seen; ``hint`` is the next step."""

    exit_code = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(LabError):
    """The user asked for something that is not there, or a gotcha's own files are broken."""

    exit_code = 64


class ServiceError(LabError):
    """A service (PostgreSQL, Redis, an upstream) cannot be had."""


class ServerError(LabError):
    """A target's server did not start, hung, died or would not stop."""


class LoadError(LabError):
    """The load generator's child process broke."""


class NotHereError(LabError):
    """A condition asks for an interpreter or a version of a library that this machine cannot have."""


class StoreError(LabError):
    """Results cannot be written or read."""
