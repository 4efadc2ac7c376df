"""One arm of a pair while its trial is performed, and what is kept of it on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.model import TrialPlan
from lab.redact import redacted_bytes
from lab.run.reading import Reader
from lab.run.stage import Stage
from lab.store import TrialFolder, write_bytes, write_samples
from lab.target.address import Address
from lab.target.protocol import Target
from lab.words.errors import StoreError
from lab.words.record import ProcessUse


@dataclass
class Arm:
    """One trial while it is performed.  ``server`` is there once it has been started, ``signs`` once the load is over."""

    trial: TrialPlan
    folder: TrialFolder
    work: Path
    stage: Stage
    reader: Reader
    started_at: str
    server: Target = field(init=False)
    signs: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> Address:
        """Where the load goes."""
        return self.stage.address(self.server)

    @property
    def server_tree(self) -> str:
        """What the server's processes are called among the trees that are watched: in a duet there are several."""
        return f"server {self.trial.variant}" if self.reader.in_duet else "server"

    def part_of(
        self, processes: Mapping[str, ProcessUse], series: Sequence[tuple[int, ...]]
    ) -> tuple[dict[str, ProcessUse], list[tuple[int, ...]]]:
        """What concerns this arm: its server, and what all have in common."""
        mine = [name for name in processes if name == self.server_tree or not name.startswith("server ")]
        columns = [1 + list(processes).index(name) for name in mine]
        kept = {"server" if name == self.server_tree else name: processes[name] for name in mine}
        return kept, [(row[0], *(row[column] for column in columns)) for row in series]


def portable(command: tuple[str, ...]) -> tuple[str, ...]:
    """The command without this machine's paths, as a reader would type it."""
    return ("python", *command[1:]) if command else ()


def save_samples(source: Path, path: Path) -> None:
    """Keep what the generator left, if it left anything."""
    import numpy as np

    if source.exists():
        write_samples(path, np.load(source))


def make_folder(folder: Path) -> None:
    """The trial's folder in the results.  Raises StoreError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}", "Check the results folder.") from error


def keep_logs(work: Path, folder: Path) -> list[str]:
    """Copy the trial's logs beside its results, without passwords; returns what could not be kept.  A log is not worth a trial."""
    lost = []
    for log in sorted([*work.glob("*.log"), *work.glob("load/*.log")]):
        try:
            write_bytes(folder / log.name, redacted_bytes(log.read_bytes()))
        except (OSError, StoreError) as error:
            lost.append(f"{log.name} was not kept: {error}")
    return lost
