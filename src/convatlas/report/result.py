"""Reading FOLDER/fit.json and the pictures beside it: the only two things a report is made from.

Names and paths come from anyone's disk, so the text is made printable here, once: control characters and halves of surrogate pairs (how
Python spells the undecodable bytes of a file name) become visible escapes, and a picture is taken only from inside FOLDER/assets and
only when its first bytes say that it is one.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

from convatlas.errors import ConvAtlasError

SCHEMA = "convatlas.fit/1"

Result = dict[str, Any]  # the parsed fit.json

_MAGIC = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def read(folder: Path) -> Result:
    """The fit result of `folder`, every text in it printable.

    Raises ConvAtlasError when there is no fit.json, or when it is not one that this version reads.
    """
    return read_versioned(Path(folder) / "fit.json", SCHEMA, made_by="convatlas fit DATA --out FOLDER")


def read_versioned(path: Path, schema: str, *, made_by: str) -> Result:
    """The JSON result at `path`, every text in it printable; `ConvAtlasError` when it is absent or of another schema."""
    again = f"Run `{' '.join(made_by.split()[:2])}` again."
    try:
        result = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConvAtlasError(
            f"{path} does not exist, so there is nothing to report.", remedy=f"Run `{made_by}` first."
        ) from None
    except ValueError as error:
        raise ConvAtlasError(f"{path} is not JSON: {error}.", remedy=again) from None
    found = result.get("schema") if isinstance(result, dict) else None
    if found != schema:
        raise ConvAtlasError(f"{path} has the schema {found!r}; this version reads {schema!r}.", remedy=again)
    return _printable(result)


def picture(folder: Path, name: str | None) -> str | None:
    """The file `name` of `folder` as a data URI, or None when it is absent, outside the assets folder, or no JPEG or PNG."""
    if not name:
        return None
    assets = (Path(folder) / "assets").resolve()
    try:
        path = (Path(folder) / name).resolve()
        data = path.read_bytes() if path.is_relative_to(assets) else b""
    except (OSError, ValueError):
        return None
    for magic, media_type in _MAGIC.items():
        if data.startswith(magic):
            return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return None


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return _UNPRINTABLE.sub(lambda match: match.group().encode("unicode_escape").decode(), value)
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value
