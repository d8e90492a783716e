"""Packing plain weights into a model folder: network, class names and preprocessing, which a weights file alone does not hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from convatlas.bundle.folder import ensure_replaceable, whole_folder
from convatlas.data import ClassMap
from convatlas.errors import ConvAtlasError
from convatlas.weights.card import read_card
from convatlas.weights.source import find_weights


def pack(
    name: str | None,
    *,
    weights: str | Path,
    out: str | Path,
    classes: str | Path | None = None,
    preprocess: str | Path | None = None,
    download: bool = False,
) -> Path:
    """Writes the model folder `out` from a weights file with its classifier; returns its path.

    `classes` is a file with a name a line (or a JSON list) in the order of the logits, `preprocess` a JSON card; both may be left out where
    the card beside the weights says them. `download` allows fetching weights that are asked for by a tag. Raises `ConvAtlasError` where the
    number of names is not that of the classifier.
    """
    from convatlas.bundle.save import Contents, save
    from convatlas.weights.load import classes_in, load_network

    target = Path(out).expanduser()
    ensure_replaceable(target)
    source = find_weights(weights, name=name, download=download)
    if preprocess is not None:
        card = read_card(Path(preprocess))
        if card.preprocessing is None:
            raise ConvAtlasError(
                f"{preprocess}: says nothing of preprocessing.", remedy="It needs input_size, mean and std at least."
            )
        source = replace(source, preprocessing=card.preprocessing, config={**source.config, **card.config})
        source = replace(source, labels=card.labels or source.labels)
    names = read_classes(Path(classes)) if classes is not None else source.labels
    model, _ = load_network(source, in_channels=source.preprocessing.channels)
    outputs = classes_in(model.state_dict(), type(model))
    if not outputs:
        raise ConvAtlasError(
            f"{source.path}: these weights have no classifier.", remedy="Fit one with `convatlas fit`."
        )
    if names is None:
        raise ConvAtlasError(
            f"{source.path}: nothing says what its {outputs} classes are called.", remedy="Give a file with --classes."
        )
    if len(names) != outputs:
        raise ConvAtlasError(
            f"{classes or source.path}: has {len(names)} class names, the classifier has {outputs} outputs.",
            remedy="Give one name for each output, in its order.",
        )
    about = {"weights": {"source": Path(source.tag).name, "sha256": source.sha256()}, "notes": list(source.notes)}
    unique = _told_apart(names)
    with whole_folder(target) as folder:
        contents = Contents(
            name=source.name,
            config=source.config,
            classes=unique,
            preprocessing=source.preprocessing,
            about=about,
        )
        save(folder, model, contents)
    return target


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names from a text file (one a line; "0 cat" as Teachable Machine writes it) or JSON (a list, or a card with labels)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvAtlasError(
            f"{path}: cannot be read as text ({error}).", remedy="Give a text file with one name a line."
        ) from error
    if path.suffix.lower() == ".json":
        try:
            parsed = json.loads(text)
        except ValueError as error:
            raise ConvAtlasError(f"{path}: not JSON ({error}).", remedy="Mend it or give a text file.") from error
        labels = parsed if isinstance(parsed, list) else read_card(path).labels
        if labels is None:
            raise ConvAtlasError(
                f"{path}: holds no class names.", remedy="A list, or an object with `labels`, is expected."
            )
        return tuple(map(str, labels))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    numbered = [line.partition(" ") for line in lines]
    if lines and all(number == str(i) and name for i, (number, _, name) in enumerate(numbered)):
        return tuple(name for _, _, name in numbered)
    return tuple(lines)


def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, repeated ones numbered on: ImageNet has two kinds of "crane" and of "maillot"."""
    found: list[str] = []
    for name in names:
        count = 1
        while (candidate := name if count == 1 else f"{name} ({count})") in found:
            count += 1
        found.append(candidate)
    return ClassMap(tuple(found)).names
