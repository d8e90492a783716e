"""Settings on the command line, `optim.lr=0.05`, from the fields of the config's dataclasses: there is no other list of them."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from convatlas.errors import ConvAtlasError
from convatlas.train.config import TrainConfig


def overridden(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """`config` with each `field=value` or `part.field=value` applied, all at once; sequences are written `0.2,1.0`.

    Raises `ConvAtlasError` for a field that is not there, naming the nearest, and a value that the field cannot have, alone or beside the
    others.
    """
    given: dict[str, str] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ConvAtlasError(f"{setting!r} sets nothing;", remedy="write --set field=value, as optim.lr=0.05.")
        path, text = path.strip(), text.strip()
        every = list(settable(config))
        if path not in every:
            near = difflib.get_close_matches(path, every, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(every)}."
            raise ConvAtlasError(f"there is no setting {path!r};", remedy=hint)
        given[path] = text
    return _replaced(config, given)


def settable(config: Any, prefix: str = "") -> Iterator[str]:
    """The paths of all fields: `epochs`, `optim.lr`."""
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            yield from settable(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name


def _replaced(config: Any, given: Mapping[str, str], prefix: str = "") -> Any:
    new: dict[str, Any] = {}
    for name, kind in get_type_hints(type(config)).items():
        path, value = prefix + name, getattr(config, name, None)
        if is_dataclass(value) and any(each.startswith(f"{path}.") for each in given):
            new[name] = _replaced(value, given, f"{path}.")
        elif path in given:
            try:
                new[name] = _parsed(kind, given[path])
            except ValueError as error:
                told = f"{path} cannot be {given[path]!r} ({error});"
                raise ConvAtlasError(told, remedy=f"it is {_said(kind)}.") from error
    try:
        return replace(config, **new)
    except ValueError as error:
        told = ", ".join(f"{prefix}{name}={given[prefix + name]}" for name in new if prefix + name in given)
        raise ConvAtlasError(f"{told}: {error}.") from error


def _parsed(kind: Any, text: str) -> Any:
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError("not one of its values")
        return text
    if get_origin(kind) is tuple:
        inside = get_args(kind)
        each = [part for part in text.strip("()[]").split(",") if part.strip()]
        if inside[-1] is not Ellipsis and len(each) != len(inside):
            raise ValueError(f"{len(each)} values where there are {len(inside)}")
        return tuple(_parsed(inside[0], part.strip()) for part in each)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("neither true nor false")
        return text.lower() == "true"
    return kind(text)


def _said(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if isinstance(kind, types.GenericAlias):
        return "numbers with commas between"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")
