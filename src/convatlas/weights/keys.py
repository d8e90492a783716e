"""Key tables: how another library's parameter names map onto ours, and back.

A table is a dict of templates over module paths, theirs to ours: `"blocks.{s}.{b}.conv_dw": "stages.stage{s+1}.{b}.depthwise"`. A
placeholder stands for a whole number, `{s+1}` for that number plus one. Where they have a convolution and we a fully connected layer, our
side is a pair of the path and their kernel: `"pre_logits.fc1": ("head.fc6.fc", (7, 7))`. Templates and kernels invert, which regular
expressions do not, so the same table loads their weights and writes ours in their layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Table = Mapping[str, str | tuple[str, tuple[int, int]]]
_HOLE = re.compile(r"\{(\w)([+-]\d+)?\}")


def rename(keys: Iterable[str], table: Table) -> dict[str, str | None]:
    """`{their key: our key}` for parameter names such as `layer1.0.conv1.weight`; None where no template fits."""
    rules = [(_pattern(theirs), ours if isinstance(ours, str) else ours[0]) for theirs, ours in table.items()]
    return {key: _apply(key, rules) for key in keys}


def inverted(table: Table) -> dict[str, str]:
    """The table from our names to theirs; kernels are apart, see `kernels`."""
    return {ours if isinstance(ours, str) else ours[0]: theirs for theirs, ours in table.items()}


def kernels(table: Table) -> dict[str, tuple[int, int]]:
    """`{our weight: their kernel}` of the fully connected layers that are convolutions there."""
    return {f"{ours[0]}.weight": ours[1] for ours in table.values() if not isinstance(ours, str)}


def _apply(key: str, rules: list[tuple[re.Pattern[str], str]]) -> str | None:
    module, _, leaf = key.rpartition(".")
    for pattern, template in rules:
        if match := pattern.fullmatch(module):
            values = {hole[0]: int(value) - int(hole[1:] or 0) for hole, value in _groups(match)}
            return _HOLE.sub(lambda hole, v=values: str(v[hole[1]] + int(hole[2] or 0)), template) + "." + leaf
    return None


def _pattern(template: str) -> re.Pattern[str]:
    """A template as a pattern whose groups remember the hole's name and offset: `{s+1}` becomes `(?P<s_p1>\\d+)`."""
    parts: list[str] = []
    end = 0
    for hole in _HOLE.finditer(template):
        parts.append(re.escape(template[end : hole.start()]))
        offset = (hole[2] or "+0").replace("+", "p").replace("-", "m")
        parts.append(rf"(?P<{hole[1]}_{offset}>\d+)")
        end = hole.end()
    return re.compile("".join(parts) + re.escape(template[end:]))


def _groups(match: re.Match[str]) -> list[tuple[str, str]]:
    """`("s+1", "3")` for each hole of a matched pattern."""
    return [(g[0] + g[2:].replace("p", "+").replace("m", "-"), value) for g, value in match.groupdict().items()]
