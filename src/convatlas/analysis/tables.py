"""An analysis as tables: one form for the terminal, Markdown and HTML; and as JSON, `convatlas.analysis/1`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Literal

from convatlas.analysis.conventions import CONVENTIONS, Count
from convatlas.analysis.receptive import Field, Unknown
from convatlas.analysis.rows import Row

if TYPE_CHECKING:
    from convatlas.analysis.analysis import Analysis

Detail = Literal["stage", "block", "layer"]

SEEN = "receptive field in pixels, of the image as it is where a unit sees everything; in brackets ignoring gates"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text cells under a header; what the columns mean stands in `notes`."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: tuple[int, ...]  # columns of figures, which are set flush right; the others are words
    notes: tuple[str, ...] = ()


def tables(found: Analysis, by: Detail = "block") -> list[Table]:
    """The network in parts, its training memory, and what other tools would count."""
    return [parts(found, by), *([training(found)] if found.training else []), conventions(found)]


def parts(found: Analysis, by: Detail = "block") -> Table:
    """A row a stage, block or layer, and one for all."""
    rows = {"stage": found.stages, "block": found.blocks, "layer": found.layers}[by]
    given = " and ".join(times(x.shape) for x in found.inputs)
    uncounted = ", ".join(f"{kind} ({times_})" for kind, times_ in found.whole.cost.uncounted.most_common())
    notes = [
        f"Input {given}, float operations of one pass in evaluation mode. Activations: what the part's operations make, "
        f"{megabytes(found.peak.bytes_)} of all at once at the most, in {found.peak.path or 'the network itself'}.",
        f"Field: {SEEN}.",
        *([f"PARTIAL: not counted are {uncounted}."] if uncounted else []),
        *(f"Note: {note}." for note in found.notes),
    ]
    return Table(
        title=f"{found.name} by {by}",
        header=(
            by,
            "kind",
            "output",
            "parameters",
            "mult-adds",
            "FLOPs",
            "activations",
            "FLOP/byte",
            "depth",
            "field",
            "stride",
        ),
        rows=(*(_cells(row) for row in rows), ("total", *_cells(found.whole)[1:])),
        figures=tuple(range(3, 11)),
        notes=tuple(notes),
    )


def _cells(row: Row) -> tuple[str, ...]:
    kind = row.kind if row.calls == 1 else f"{row.kind} ×{row.calls}"
    output = times(row.output_shapes[-1][1:]) if row.output_shapes else "–"
    costs = (short(row.cost.mult_adds), short(row.cost.flops), megabytes(row.activation_bytes))
    intensity = "–" if row.intensity is None else f"{row.intensity:.1f}"
    return (row.path or "–", kind, output, f"{row.parameters:,}", *costs, intensity, str(row.depth), *_seen(row))


def _seen(row: Row) -> tuple[str, str]:
    """Field and stride; of a field that is the whole image because of a gate also without it."""
    field, bare = row.field, row.field_without_gates
    if not isinstance(field, Field):
        return ("–" if field is None else "?", "–")
    size = _size(field)
    if bare is not field and isinstance(bare, Field) and bare.size != field.size:
        return f"{size} ({_size(bare)})", _alike(bare.stride)
    return size, "–" if field.whole else _alike(field.stride)


def _size(field: Field) -> str:
    return ("" if field.exact else "≤") + _alike(field.size)


def _alike(sides: Sequence[float]) -> str:
    """One number if all axes have the same."""
    distinct = dict.fromkeys(sides)
    return "×".join(f"{side:g}" for side in (distinct if len(distinct) == 1 else sides))


def training(found: Analysis) -> Table:
    """A row a freeze depth."""
    rows = [
        (
            freeze.upto or "nothing",
            f"{freeze.memory.trainable:,}",
            *(
                megabytes(bytes_)
                for bytes_ in (
                    freeze.memory.parameters + freeze.memory.buffers,
                    freeze.memory.gradients,
                    freeze.memory.optimizer,
                    freeze.memory.saved,
                    freeze.memory.total,
                )
            ),
        )
        for freeze in found.training
    ]
    assumed = sorted({kind for freeze in found.training for kind in freeze.memory.assumed})
    return Table(
        title=f"memory of a training step, batch {found.training_batch}, {found.optimizer}",
        header=("frozen up to", "trained", "weights", "gradients", "optimizer", "saved activations", "total"),
        rows=tuple(rows),
        figures=tuple(range(1, 7)),
        notes=(
            "Saved activations are those that autograd keeps for the backward pass; scratch memory of kernels and the gradients of "
            "activations come on top.",
            *([f"Not known to save less than all they touch: {', '.join(assumed)}."] if assumed else []),
        ),
    )


def counts(found: Analysis) -> dict[str, Count]:
    """The totals of all conventions."""
    return {name: found.count(name) for name in CONVENTIONS}


def conventions(found: Analysis) -> Table:
    """What the papers and other tools would print, and why."""
    rows = [
        ("this table", f"{found.whole.cost.mult_adds:,}", "mult-adds", "every operation is counted, free, or listed")
    ]
    rows += [(name, f"{count.total:,}", count.unit, count.why) for name, count in counts(found).items()]
    return Table(
        title="the same by other conventions",
        header=("convention", "total", "unit", "why"),
        rows=tuple(rows),
        figures=(1,),
    )


def markdown(table: Table) -> str:
    """As GitHub shows it."""
    rule = ["--:" if i in table.figures else "---" for i in range(len(table.header))]
    lines = [f"| {' | '.join(cells)} |" for cells in (table.header, rule, *table.rows)]
    return "\n".join([f"**{table.title}**", "", *lines, *(f"\n{note}" for note in table.notes)]) + "\n"


def html(table: Table) -> str:
    """A `<table>` with its title and notes, without any style."""

    def row(cells: Sequence[str], tag: str) -> str:
        style = ' style="text-align:right"'
        inside = "".join(
            f"<{tag}{style if i in table.figures else ''}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells)
        )
        return f"<tr>{inside}</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    notes = "".join(f"<p>{escape(note)}</p>" for note in table.notes)
    return (
        f"<table><caption>{escape(table.title)}</caption><thead>{row(table.header, 'th')}</thead>"
        f"<tbody>{body}</tbody></table>{notes}"
    )


def to_json(found: Analysis) -> dict[str, Any]:
    """All of it; shapes with the batch, sizes in bytes or elements, parameters and activations in elements."""
    whole = _row_json(found.whole)
    return {
        "schema": "convatlas.analysis/1",
        "name": found.name,
        "inputs": [{"shape": list(x.shape), "dtype": str(x.dtype).removeprefix("torch.")} for x in found.inputs],
        **{key: value for key, value in whole.items() if key not in ("path", "calls")},
        "status": found.status,
        "unreached_parameters": found.unreached,
        "peak_bytes": found.peak.bytes_,
        "peak_path": found.peak.path,
        "recorded_on": found.tape.tensors,
        "conventions": {name: asdict(count) for name, count in counts(found).items()},
        "training": {
            "batch": found.training_batch,
            "optimizer": found.optimizer,
            "freeze_depths": [
                {"frozen_upto": freeze.upto or None, **_memory_json(freeze.memory)} for freeze in found.training
            ],
        },
        "stages": [_row_json(row) for row in found.stages],
        "blocks": [_row_json(row) for row in found.blocks],
        "layers": [_row_json(row) for row in found.layers],
        "notes": list(found.notes),
    }


def _memory_json(memory: Any) -> dict[str, Any]:
    own = asdict(memory)
    trained, assumed = own.pop("trainable"), own.pop("assumed")
    in_bytes = {f"{name}_bytes": value for name, value in own.items()}
    return {"trainable": trained, **in_bytes, "total_bytes": memory.total, "assumed": list(assumed)}


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "path": row.path,
        "kind": row.kind,
        "calls": row.calls,
        "input_shape": list(row.input_shapes[0]) if row.input_shapes else None,
        "output_shape": list(row.output_shapes[-1]) if row.output_shapes else None,
        "input_shapes": [list(shape) for shape in row.input_shapes],
        "output_shapes": [list(shape) for shape in row.output_shapes],
        "parameters": row.parameters,
        "trainable": row.trainable,
        "buffers": row.buffers,
        "mult_adds": row.cost.mult_adds,
        "flops": row.cost.flops,
        "uncounted": dict(row.cost.uncounted),
        "activations": row.activations,
        "activation_bytes": row.activation_bytes,
        "moved_bytes": row.moved_bytes,
        "intensity": row.intensity,
        "depth": row.depth,
        "receptive_field": _field_json(row.field),
        "receptive_field_without_gates": _field_json(row.field_without_gates),
    }


def _field_json(field: Field | Unknown | None) -> dict[str, Any] | None:
    if field is None:
        return None
    if isinstance(field, Unknown):
        return {"unknown": field.reason}
    return {
        "size": list(field.size),
        "stride": list(field.stride),
        "offset": list(field.offset),
        "smallest": [interval.size for interval in field.smallest],
        "exact": field.exact,
        "whole": field.whole,
    }


def times(sides: Sequence[int]) -> str:
    """`64×112×112`."""
    return "×".join(map(str, sides)) or "1"


def short(count: int) -> str:
    """`4.09 G`, `118 M`, `512`: three digits."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.{max(0, 3 - len(str(int(value))))}f} {unit}"
    return str(count)


def megabytes(bytes_: int) -> str:
    """In millions of bytes."""
    return f"{bytes_ / 1e6:,.2f} MB" if bytes_ < 10**7 else f"{bytes_ / 1e6:,.1f} MB"
