"""The verb `cache`: what computed features, decoded images and trainings take on the disk, and less of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convatlas.cli.output import Json, put_json, table

cache_app = typer.Typer(
    help="Show or shrink the cache of computed features, decoded images and trainings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@cache_app.command("show")
def cache_show(json: Json = False) -> None:
    """List what the cache holds, the most recently used first."""
    from convatlas import cache

    found = cache.contents()
    if json:
        rows = [
            {"path": str(f.path), "entries": f.entries, "bytes": f.bytes_, "used": f.used, "identity": f.identity}
            for f in found
        ]
        put_json({"schema": "convatlas.cache/1", "folder": str(cache.cache_folder()), "files": rows})
        return
    print(f"{cache.cache_folder()}: {sum(f.bytes_ for f in found) / 1e6:,.1f} MB")
    if found:
        print(table(("file", "of", "entries", "MB"), [_cache_row(f) for f in found], right=(2, 3)))


@cache_app.command("prune")
def cache_prune(
    limit: Annotated[
        str | None,
        typer.Option("--limit", metavar="SIZE", help="Such as 500M; 0 empties it. Default: CONVATLAS_CACHE_LIMIT."),
    ] = None,
    json: Json = False,
) -> None:
    """Remove what was not used for longest until the cache is no larger than the limit."""
    from convatlas import cache

    removed = cache.prune(None if limit is None else cache.parse_size(limit))
    freed = sum(f.bytes_ for f in removed)
    if json:
        put_json({"schema": "convatlas.cache/1", "removed": [str(f.path) for f in removed], "bytes": freed})
    else:
        print(f"removed {len(removed)} files, {freed / 1e6:,.1f} MB")


def _cache_row(file: Any) -> tuple[str, str, str, str]:
    what = file.identity.get("network") or file.identity.get("what") or "image checks"
    return file.path.name, what, f"{file.entries:,}", f"{file.bytes_ / 1e6:,.1f}"
