"""One load shared among several generator processes, and the folders of a duet's arms.  The parts are the shapes' own (``lab.words.loads``)."""

from pathlib import Path

from lab.words.loads import Load


def processes_for(load: Load, wanted: int) -> int:
    """How many processes may carry a load: at most as many as it can be shared among."""
    return max(1, min(wanted, load.most_processes))


def arm_folder(folder: Path, variant: str) -> Path:
    """Where a duet leaves what it measured of an arm."""
    return folder / f"arm-{variant}"
