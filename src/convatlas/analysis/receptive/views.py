"""Views and copies: which dimension is which axis afterwards. Nothing is computed here, only moved."""

from __future__ import annotations

from collections.abc import Sequence

from convatlas.analysis.receptive.field import Field, Unknown, along, broadcast, unite, whole, without
from convatlas.analysis.receptive.interval import flipped, window
from convatlas.analysis.receptive.places import ALIKE, MIXED, axes, reshaped, retagged
from convatlas.analysis.receptive.resample import fused
from convatlas.analysis.receptive.rule import Gates, Result, Rule, Seen, argument, dims_of, each, pointwise
from convatlas.analysis.tape import Op, Value


def same(op: Op, seen: Seen, gates: Gates) -> Result:
    return seen[0][1]


def nothing(op: Op, seen: Seen, gates: Gates) -> Result:
    """Shapes are read, no contents."""
    return None


def copied(op: Op, seen: Seen, gates: Gates) -> Result:
    """`copy_(to, source)` and `fill_(to, source)`, of which only the source is seen here."""
    return pointwise(op, seen, gates)


def viewed(op: Op, seen: Seen, gates: Gates) -> Result:
    (value, field), made = seen[0], op.makes[0]
    if value.shape == made.shape:
        return field
    places = reshaped(field.places, value.shape, made.shape)
    if places is None:
        return Unknown(f"a view of {value.shape} as {made.shape} takes an axis of the image to pieces")
    kept = {axis for tag in places for axis in axes(tag)}
    dropped = [dim for dim, tag in enumerate(field.places) if tag != ALIKE and not kept.issuperset(axes(tag))]
    return whole(field, dropped)._replace(places=places)  # axes of one unit


def restrided(op: Op, seen: Seen, gates: Gates) -> Result:
    """`as_strided`: known for maps of one place only, which torch's global pooling gives the strides of channels-last memory."""
    value, field = seen[0]
    size, stride = (list(arg) for arg in op.args[1:3])
    channels = value.shape[1:2]
    if size == list(value.shape) and set(size[2:]) == {1} and stride[:2] == [*channels, 1]:
        return field
    return Unknown("memory is given other strides")


def permuted(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    places, rank = field.places, len(value.shape)
    kind = op.kind
    if kind == "aten.t":
        order = list(range(rank))[::-1]
    elif kind.startswith("aten.transpose"):
        order = list(range(rank))
        one, two = op.args[1] % rank, op.args[2] % rank
        order[one], order[two] = two, one
    else:
        order = [dim % rank for dim in op.args[1]]
    return field._replace(places=tuple(places[dim] for dim in order))


def unsqueezed(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    dim = op.args[1] % (len(value.shape) + 1)
    return field._replace(places=(*field.places[:dim], ALIKE, *field.places[dim:]))


def squeezed(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    return without(field, [dim for dim in dims_of(op, value) if value.shape[dim] == 1])


def expanded(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    return broadcast(field, value.shape, op.makes[0].shape) or Unknown(f"{op.kind} of {value.shape}")


def tiled(op: Op, seen: Seen, gates: Gates) -> Result:
    """`repeat`: only dimensions that are no axes of the image may be laid side by side."""
    value, field = seen[0]
    times = op.args[1][len(op.args[1]) - len(value.shape) :]
    if any(n != 1 and axes(tag) for n, tag in zip(times, field.places, strict=True)):
        return Unknown("a map is laid side by side with itself")
    return field._replace(places=(ALIKE,) * (len(op.args[1]) - len(times)) + field.places)


def selected(op: Op, seen: Seen, gates: Gates) -> Result:
    """`select(value, dim, index)`; `unbind(value, dim)` makes all of them."""
    value, field = seen[0]
    dim = argument(op, "dim") % len(value.shape)
    indices = range(len(op.makes)) if op.kind == "aten.unbind" else [argument(op, "index") % value.shape[dim]]
    return [_at(field, dim, index) for index in indices]


def _at(field: Field, dim: int, index: int) -> Field:
    field = fused(field, dim)
    tag = field.places[dim]
    if isinstance(tag, tuple):  # a place of a flattened map
        field = whole(field, [dim], sure=False)
    field = along(field, dim, lambda interval: interval.alone(index))
    field = field.bound() if tag == MIXED else field
    return field._replace(places=field.places[:dim] + field.places[dim + 1 :])


def sliced(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    dim = argument(op, "dim") % len(value.shape)
    start = argument(op, "start") or 0
    start = min(max(start + value.shape[dim] if start < 0 else start, 0), value.shape[dim])
    return _part(field, value, dim, start, argument(op, "step"), op.makes[0].shape[dim])


def split(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    dim = argument(op, "dim") % len(value.shape)
    starts = [sum(made.shape[dim] for made in op.makes[:i]) for i in range(len(op.makes))]
    return [_part(field, value, dim, start, 1, made.shape[dim]) for start, made in zip(starts, op.makes, strict=True)]


def _part(field: Field, value: Value, dim: int, start: int, step: int, count: int) -> Field:
    field = fused(field, dim)
    tag, units = field.places[dim], value.shape[dim]
    if (count == units and step == 1) or tag == ALIKE:
        return field
    if tag == MIXED:
        return field.bound()
    if isinstance(tag, tuple):  # places of a flattened map
        return whole(field, [dim], sure=False)._replace(places=retagged(field.places, dim, MIXED))
    return along(field, dim, lambda interval: window(interval, 1, step, -start, 1, units, count))


def padded(op: Op, seen: Seen, gates: Gates) -> Result:
    """Zeros or any other constant; the last dimension comes first, before and after. Reflections are seen as far as the border only."""
    value, field = seen[0]
    pads = op.args[1]
    for i in range(0, len(pads), 2):
        dim = len(value.shape) - 1 - i // 2
        before, after = pads[i], pads[i + 1]
        if not before and not after:
            continue
        field = fused(field, dim)
        tag = field.places[dim]
        if isinstance(tag, tuple):
            return Unknown("several axes merged into one are padded")
        if tag < 0:
            field = field._replace(places=retagged(field.places, dim, MIXED))
            continue
        units = value.shape[dim]
        out = units + before + after
        field = along(field, dim, lambda interval, p=before, n=units, out=out: window(interval, 1, 1, p, 1, n, out))
        if op.kind != "aten.constant_pad_nd":
            field = along(field, dim, lambda interval: interval._replace(clips=False))
    return field


def turned(op: Op, seen: Seen, gates: Gates) -> Result:
    """`flip`."""
    value, field = seen[0]
    for dim in op.args[1]:
        field = fused(field, dim)
        if isinstance(field.places[dim], tuple):
            return Unknown("several axes merged into one are turned round")
        units = value.shape[dim]
        field = along(field, dim, lambda interval, n=units: flipped(interval, n))
    return field


def rolled(op: Op, seen: Seen, gates: Gates) -> Result:
    value, field = seen[0]
    dims = argument(op, "dims") or range(len(value.shape))
    if any(axes(field.places[dim]) for dim in dims):
        return Unknown("a map is rolled along an axis of the image")
    return field


def joined(op: Op, seen: Seen, gates: Gates) -> Result:
    """`cat`, and `stack`, which makes the dimension first."""
    made = op.makes[0]
    dim = argument(op, "dim") % len(made.shape)
    pieces: list[tuple[Value, Field | None]] = []  # the field of what depends on the image
    known = {value.number: field for value, field in seen}
    for value in argument(op, "tensors"):
        field = known.get(value.number)
        if field is not None and op.kind == "aten.stack":
            field = field._replace(places=(*field.places[:dim], ALIKE, *field.places[dim:]))
        if field is not None:
            field = fused(field, dim)
            if isinstance(field.places[dim], tuple):  # places of a flattened map beside others, as tokens are
                field = whole(field, [dim])._replace(places=retagged(field.places, dim, MIXED))
        if field is not None or value.elements or len(value.shape) > 1:
            pieces.append((value, field))
    if any(field is not None and axes(field.places[dim]) for _, field in pieces):
        return _side_by_side(pieces, dim)
    fields = [field for _, field in pieces if field is not None]
    united = unite(fields)
    if isinstance(united, Unknown):
        return united
    unlike = len(fields) < len(pieces) or any(field[:2] != united[:2] for field in fields)
    return united._replace(places=retagged(united.places, dim, MIXED)) if unlike else united


def _side_by_side(pieces: Sequence[tuple[Value, Field | None]], dim: int) -> Field | Unknown:
    """Joined along an axis of the image: known where the pieces go on one from the other, as the parts of a split do, or are padding."""
    begin, units = 0, sum(value.shape[dim] for value, _ in pieces)
    fields: list[Field] = []
    for value, field in pieces:
        if field is not None:
            if not axes(field.places[dim]):
                return Unknown("unlike maps are laid side by side along an axis of the image")
            own = value.shape[dim]
            fields.append(along(field, dim, lambda interval, p=begin, n=own: window(interval, 1, 1, p, 1, n, units)))
        begin += value.shape[dim]
    if len({tuple(interval[:3] for interval in (*field.largest, *field.smallest)) for field in fields}) > 1:
        return Unknown("unlike maps are laid side by side along an axis of the image")
    united = unite(fields)
    if len(pieces) == 1 or isinstance(united, Unknown):
        return united
    return along(united, dim, lambda interval: interval._replace(clips=False))  # the pieces' ends are no borders


def indexed(op: Op, seen: Seen, gates: Gates) -> Result:
    """Some units along one dimension, chosen by a list: `index(value, [None, list])`, `index_select(value, dim, list)`."""
    value, field = seen[0]
    if len(seen) > 1 or value is not op.args[0]:
        return Unknown("places are chosen by what is in the image")
    if op.kind == "aten.index_select":
        chosen = {op.args[1] % len(value.shape): op.args[2]}
    else:
        chosen = {dim: index for dim, index in enumerate(op.args[1]) if index is not None}
    (dim, index), *more = chosen.items()
    if more or len(index.shape) != 1 or axes(field.places[dim]):
        return Unknown("places of the map are chosen by a list")
    return field.bound() if field.places[dim] == MIXED else field


RULES: dict[str, Rule] = {
    **each("alias detach clone contiguous _to_copy lift_fresh lift_fresh_copy lift _to_cpu", same),
    **each("empty_like zeros_like ones_like full_like rand_like randn_like randint_like", nothing),
    **each("new_empty new_zeros new_ones new_full new_empty_strided zero", nothing),
    **each("copy fill", copied),
    **each("view _unsafe_view reshape _reshape_alias _reshape_copy view_copy flatten", viewed),
    "as_strided": restrided,
    **each("permute transpose t permute_copy transpose_copy", permuted),
    "unsqueeze": unsqueezed,
    "squeeze": squeezed,
    **each("expand expand_copy", expanded),
    "repeat": tiled,
    **each("select unbind", selected),
    "slice": sliced,
    **each("split split_with_sizes unsafe_split unsafe_split_with_sizes", split),
    **each("constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d", padded),
    **each("replication_pad1d replication_pad2d replication_pad3d", padded),
    "flip": turned,
    "roll": rolled,
    **each("cat stack", joined),
    **each("index index_select", indexed),
}
