"""The command line: `convatlas VERB`. Results go to stdout, progress and notes to stderr.

Exit status: 0 done, 1 the data or the model is bad (the message names the file and the remedy), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time

# seconds; an interrupt in a thread pool can leave a lock locked for which its thread then waits for ever
_PATIENCE = 5.0


def main() -> None:
    """The entry point of the `convatlas` command."""
    from convatlas.errors import ConvAtlasError, Stopped

    stdout, before = sys.stdout, set(threading.enumerate())
    for stream in (stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that this terminal cannot show must not stop the command
            stream.reconfigure(errors="backslashreplace")
    try:
        from convatlas.cli.verbs import app

        try:
            app()
        finally:
            sys.stdout.flush()  # now, so that a reader who has left (`convatlas list | head`) is met below
    except ConvAtlasError as error:
        print(f"convatlas: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:
        print(f"convatlas: {stopped}; repeat the command to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # for what is left in the buffer at exit
        sys.exit(0)
    except (KeyboardInterrupt, SystemExit) as leaving:
        if sys.stdout is not stdout:  # typer met that reader first, and muffled the stream
            sys.exit(0)
        if isinstance(leaving, SystemExit) and leaving.code != 130:  # which typer makes of an interrupt
            raise
        print(
            "convatlas: interrupted; nothing was left half-written, and what was computed is cached: repeat the command "
            "to go on",
            file=sys.stderr,
        )
        until = time.monotonic() + _PATIENCE
        for thread in set(threading.enumerate()) - before:
            if not thread.daemon and not _over(thread, until):
                os._exit(130)
        sys.exit(130)


def _over(thread: threading.Thread, until: float) -> bool:
    """Whether it has ended by then."""
    try:
        thread.join(max(0.0, until - time.monotonic()))
    except RuntimeError:  # it was about to start when the interrupt came
        return False
    return not thread.is_alive()


if __name__ == "__main__":
    main()
