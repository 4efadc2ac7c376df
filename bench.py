"""The command line of the lab: run a command of ``lab.cli``; every error is one line, a next step and an exit code."""

import os
import signal
import sys
import traceback

import typer

from lab.cli import catalogue, measuring, reading, serving
from lab.cli.options import EXIT_BROKEN, EXIT_INTERRUPTED, app
from lab.cli.output import clean, told
from lab.terminal import complain, note
from lab.words.errors import LabError, UsageError

COMMANDS = (catalogue, measuring, reading, serving)
"""The modules whose commands ``app`` has, in the order of the help."""
TRACEBACK = "LAB_TRACEBACK"


def _end_in_order() -> None:
    """What a service manager, a CI server or a closed terminal sends is Ctrl-C: a server of the user's is left as it was.

    A signal that is ignored already (nohup) stays so.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def main() -> None:
    """Run the command; every error is one line and a next step."""
    _end_in_order()
    try:
        code = app(standalone_mode=False)
        sys.exit(code or 0)
    except LabError as error:
        complain(type(error)(clean(str(error)), clean(error.hint)))
        sys.exit(error.exit_code)
    except typer.Exit as done:
        sys.exit(done.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        note("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except typer.TyperException as error:
        text = error.format_message() if hasattr(error, "format_message") else str(error)
        complain(UsageError(text, "`bench.py --help` shows the commands, `bench.py COMMAND --help` its options."))
        sys.exit(64)
    except BrokenPipeError:  # `bench.py list | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        note(f"error: the lab itself broke: {told(error)}")
        note(
            f"       What was measured is kept (`bench.py verdict` judges it); {TRACEBACK}=1 shows the whole traceback."
        )
        if os.environ.get(TRACEBACK):
            note(clean(traceback.format_exc()))
        sys.exit(EXIT_BROKEN)


if __name__ == "__main__":
    main()
