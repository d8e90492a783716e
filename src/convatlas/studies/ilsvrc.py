"""Who won ILSVRC (Russakovsky et al., IJCV 2015, https://arxiv.org/abs/1409.0575) from 2010 to 2017, and by how much.

`ilsvrc.json` is kept by hand. Each figure says on what our knowledge of it rests, and whether it is one that the lecture prints
(`in_lecture`): what is not must never be shown as the lecture's.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def ilsvrc() -> dict[str, Any]:
    """`winners` in the order of time, the `human` figure, and `sweep_2015`: the margins in that year's five tracks."""
    return json.loads(Path(__file__).with_name("ilsvrc.json").read_text(encoding="utf-8"))
