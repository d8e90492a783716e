"""The command line: `convatlas VERB`. Results go to stdout, progress and notes to stderr.

Exit status: 0 done, 1 the data or the model is bad (the message names the file and the remedy), 2 usage, 130 interrupted.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The entry point of the `convatlas` command."""
    from convatlas.errors import ConvAtlasError

    try:
        from convatlas.cli.verbs import app

        app()
    except ConvAtlasError as error:
        print(f"convatlas: {error.message}", file=sys.stderr)
        if error.remedy:
            print(f"  {error.remedy}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "convatlas: interrupted; nothing was left half-written, and what was computed is cached.", file=sys.stderr
        )
        sys.exit(130)
    except BrokenPipeError:  # `convatlas list | head`
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
