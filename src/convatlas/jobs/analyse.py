"""The analysis of a network given by name, as a module, or as a function in somebody's own code."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from convatlas import catalogue, zoo
from convatlas.analysis.analysis import Analysis, without_collector
from convatlas.analysis.analysis import analyse as analyse_module
from convatlas.analysis.memory import STATES, Optimizer
from convatlas.analysis.record import UnrunnableError
from convatlas.errors import ConvAtlasError

Size = Sequence[int]


def analyse(
    model: nn.Module | str,
    input_size: Size | Sequence[Size] | None = None,
    *,
    dtypes: Sequence[torch.dtype] | torch.dtype = torch.float32,
    batch: int = 1,
    training_batch: int = 32,
    optimizer: Optimizer = "momentum",
    name: str = "",
) -> Analysis:
    """What a network costs and sees: layers, blocks, stages and totals, memory, receptive fields, other tools' counts.

    `model` is any `nn.Module`, the name of a network of ours, or `"package.module:build"` or `"file.py:build"`: a function without
    arguments that returns a module, which is run. `input_size` is (channels, height, width) without the batch, or a sequence of sizes
    where the network takes several tensors; for a network of ours the paper's by default. Nothing is computed and no memory needed for
    activations, unless the network decides by values. Training memory is of `training_batch` inputs and an optimizer "sgd", "momentum" or
    "adam".

    Raises `ConvAtlasError`: an unknown name, code that gives no module, an input on which the network cannot run.
    """
    if optimizer not in STATES:
        raise ConvAtlasError(f"unknown optimizer {optimizer!r};", remedy=f"there are {', '.join(STATES)}.")
    if batch < 1 or training_batch < 2:
        raise ConvAtlasError(
            f"a batch of {batch} to infer and of {training_batch} to train on cannot be;",
            remedy="give at least 1 and 2.",
        )
    stages = None
    sizes = _sizes(input_size)
    if isinstance(model, str):
        name = name or model
        if ":" in model:
            model = build_users(model).model
        elif model.endswith(".py"):
            raise ConvAtlasError(
                f"{model} names no function;", remedy=f"write {model}:function, one that returns a network."
            )
        else:
            network = catalogue.find(model)
            sizes = sizes or [network.input_size]
            if len(sizes) != 1 or len(sizes[0]) != 3:
                raise ConvAtlasError(
                    f"{model} takes one image;", remedy="give its channels, height and width, as 3,224,224."
                )
            if sizes[0][0] > 16 and sizes[0][2] <= 4:
                sides = ",".join(map(str, (sizes[0][2], *sizes[0][:2])))
                raise ConvAtlasError(
                    f"{sizes[0][0]} channels cannot be meant;", remedy=f"channels come first: {sides}."
                )
            with without_collector():
                model = zoo.skeleton(model, num_classes=network.num_classes, in_channels=sizes[0][0])
            stages = stage_paths(model)
    elif not isinstance(model, nn.Module):
        raise ConvAtlasError(f"{type(model).__name__} is no network;", remedy="give an nn.Module or a name.")
    if not sizes:
        raise ConvAtlasError(
            f"{name or type(model).__name__} does not say what it takes;",
            remedy="give the input's size without the batch, as (3, 224, 224) or --input 3,224,224.",
        )
    each = [dtypes] * len(sizes) if isinstance(dtypes, torch.dtype) else list(dtypes) or [torch.float32] * len(sizes)
    if len(each) != len(sizes):
        raise ConvAtlasError(
            f"{len(sizes)} inputs and {len(each)} types;", remedy="give one type for all, or one for each."
        )
    device = _device(model)
    inputs = [_input((batch, *size), dtype, device) for size, dtype in zip(sizes, each, strict=True)]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # what the network itself prints
            return analyse_module(
                model, *inputs, name=name, stages=stages, training_batch=training_batch, optimizer=optimizer
            )
    except UnrunnableError as error:
        given = " and ".join("×".join(map(str, x.shape)) for x in inputs)
        raise ConvAtlasError(
            f"{name or type(model).__name__} cannot run on {given}: {error}.",
            remedy="Give the size it was made for, without the batch, with input_size or --input."
            if isinstance(error.__cause__, Exception)
            else "",  # refused without a try: the message says what to do
        ) from error


def _module_name(path: Path) -> str:
    """That of a file of a package as the package's own code would import it; one that nobody else has for others."""
    parts, folder = [path.stem], path.resolve().parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts) if len(parts) > 1 else f"_users_{path.stem}"  # a random.py must not stand in for Python's


def parse_input(text: str) -> tuple[tuple[int, ...], torch.dtype]:
    """Size and type of an input written as `3,224,224` or `77:int64`."""
    sides, _, kind = text.partition(":")
    dtype = getattr(torch, kind or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise ConvAtlasError(f"{kind!r} is no type of numbers;", remedy="write one of torch's, as 77:int64.")
    try:
        return tuple(int(side) for side in re.split(r"\s*[,x×]\s*|\s+", sides.strip("()[] ").rstrip(","))), dtype
    except ValueError:
        raise ConvAtlasError(f"{text!r} is no size;", remedy="write 3,224,224: channels, height, width.") from None


def stage_paths(model: zoo.ConvNet) -> list[str]:
    """The modules that are the stages of a network of ours."""
    return [*(f"stages.{name}" for name, _ in model.stages.named_children()), "head"]


def _sizes(given: Size | Sequence[Size] | None) -> list[tuple[int, ...]]:
    if given is None:
        return []
    each: list[Any] = [given] if all(isinstance(side, int) for side in given) else list(given)
    sizes = [tuple(size) for size in each]
    if any(not isinstance(side, int) or side < 1 for size in sizes for side in size) or not all(sizes):
        raise ConvAtlasError(f"{given} is no size;", remedy="give whole numbers from 1, as (3, 224, 224).")
    return sizes


def _device(model: nn.Module) -> torch.device:
    """Where its parameters are."""
    return next((x.device for x in chain(model.parameters(), model.buffers())), torch.device("cpu"))


def _input(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Real numbers, the same each time, in case the network looks at them; zeros where they may be indices."""
    if device.type == "meta" or not dtype.is_floating_point:
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device=device, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network that somebody's code made, and which code that was."""

    model: nn.Module
    ran: str


def build_users(spec: str) -> Built:
    """Runs `module:function` or `file.py:function` and takes the module it returns; a module found under the name is taken as it is.

    The code is imported with the current folder on the path; what it prints goes to stderr. Raises `ConvAtlasError` for code that is not
    there, fails, or gives something else.
    """
    where, _, name = spec.rpartition(":")
    if not where or not name.isidentifier():
        raise ConvAtlasError(
            f"{spec!r} names no function;", remedy="write module:function, as my_nets:build or nets/mine.py:build."
        )
    with contextlib.redirect_stdout(sys.stderr), _as_if_run_here(where):
        module = _imported(where)
        found = getattr(module, name, None)
        if found is None:
            offered = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            near = difflib.get_close_matches(name, offered, n=1)
            has = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(offered[:10]) or 'no functions'}."
            raise ConvAtlasError(f"{where} has no {name!r};", remedy=has)
        source = getattr(module, "__file__", where)
        if isinstance(found, nn.Module):
            return Built(model=found, ran=f"imported {source}")
        if not callable(found):
            raise ConvAtlasError(
                f"{spec} is a {type(found).__name__};", remedy="name a function that returns an nn.Module."
            )
        try:
            model = found()
        except (Exception, SystemExit) as error:
            said = str(error).rstrip(".")
            remedy = "Make it work without a GPU and without arguments; random weights will do."
            if isinstance(error, TypeError) and "argument" in said:
                remedy = f"It is called without arguments: name a function that calls {name} with those it needs."
            raise ConvAtlasError(f"{spec}() failed: {type(error).__name__}: {said}.", remedy=remedy) from error
    if not isinstance(model, nn.Module):
        several = model if isinstance(model, tuple | list) else ()
        held = f" of {', '.join(type(x).__name__ for x in several[:5])}" if several else ""
        raise ConvAtlasError(
            f"{spec}() gave a {type(model).__name__}{held};", remedy="it must return an nn.Module and nothing else."
        )
    return Built(model=model, ran=f"imported {source} and ran {name}()")


def _imported(where: str) -> ModuleType:
    path = Path(where)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise ConvAtlasError(
                    f"{where}: there is no such file.", remedy="Check the path, or name an importable module."
                )
            name = _module_name(path)
            if "." in name:
                return importlib.import_module(name)
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise ConvAtlasError(f"{where} cannot be imported.", remedy="It must be a Python file.")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # dataclasses and pickles in it look themselves up
            spec.loader.exec_module(module)
            return module
        return importlib.import_module(where)
    except ConvAtlasError:
        raise
    except ModuleNotFoundError as error:
        raise ConvAtlasError(
            f"{where} cannot be imported: {error}.",
            remedy="Run from the folder that holds it, or install what it imports."
            if path.suffix == ".py"
            else "Run from the folder that holds it, or give the path of the file, which ends in .py.",
        ) from error
    except SystemExit as error:
        raise ConvAtlasError(
            f"importing {where} ended the program;",
            remedy='keep what a script does under `if __name__ == "__main__":`.',
        ) from error
    except Exception as error:
        raise ConvAtlasError(
            f"importing {where} failed: {type(error).__name__}: {str(error).rstrip('.')}.",
            remedy=f"Run `python {where}` to see why."
            if path.suffix == ".py"
            else f"Try `python -c 'import {where}'`.",
        ) from error


@contextlib.contextmanager
def _as_if_run_here(where: str) -> Iterator[None]:
    """With the current folder on the import path, as `python -m` has it, the folder of a file or its package too, and no arguments."""
    folders = [str(Path.cwd())]
    path = Path(where)
    if path.suffix == ".py":
        folders.insert(0, str(path.resolve().parents[_module_name(path).count(".")]))
    argv = sys.argv
    sys.argv = [where]  # a script that reads its arguments must not read ours
    sys.path[:0] = folders
    try:
        yield
    finally:
        sys.argv = argv
        for folder in folders:
            with contextlib.suppress(ValueError):
                sys.path.remove(folder)
