"""Diagrams say what the tape says: every block once, every edge with its shape; and they can be read: no words on words."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from xml.etree import ElementTree

import pytest
import torch
import torchvision
from PIL import ImageFont
from torch import Tensor, nn

from convatlas import zoo
from convatlas.analysis import words
from convatlas.analysis.boxes import _in_order, boxes
from convatlas.analysis.diagram import WIDTH, diagram
from convatlas.analysis.folding import fold
from convatlas.analysis.outline import Outline, links, outline
from convatlas.analysis.record import record
from convatlas.analysis.svg import shortened, text_width
from convatlas.analysis.tape import Tape
from convatlas.analysis.wires import place

SVG = "{http://www.w3.org/2000/svg}"
QUICK = ("lenet5", "alexnet", "vgg16", "googlenet", "resnet152", "se_resnet50", "densenet201", "fractalnet40_cifar")
QUICK += ("mobilenet_v2", "mobilenet_v3_small", "nasnet_a_large", "resnext101_64x4d", "fractalnet80_thin_cifar100")


def taped(name: str) -> tuple[Tape, tuple[str, ...] | None]:
    """A network's tape and its stages: one of the zoo, or of torchvision without known stages."""
    with torch.device("meta"):
        if name.startswith("torchvision "):
            model = torchvision.models.get_model(name.removeprefix("torchvision "), weights=None)
            return record(model, torch.empty(1, 3, 224, 224)), None
        size, classes = zoo.native(name)
        model = zoo.build(name, num_classes=classes, in_channels=size[0])
    stages = (*(f"stages.{part}" for part, _ in model.stages.named_children()), "head")
    return record(model, torch.empty(1, *size, device="meta")), stages


@dataclass(frozen=True)
class Area:
    left: float
    top: float
    right: float
    bottom: float
    what: str = ""

    def meets(self, other: Area) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def holds(self, other: Area) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def text_area(element: ElementTree.Element) -> Area:
    size, text = float(element.get("font-size", "0")), element.text or ""
    width = text_width(text, size, bold=element.get("class") in ("strong", "fall", "times"))
    x, y = float(element.get("x", "0")), float(element.get("y", "0"))
    left = {"start": x, "middle": x - width / 2, "end": x - width}[element.get("text-anchor", "start")]
    return Area(left, y - 0.75 * size, left + width, y + 0.22 * size, text)


def shapes_in(group: ElementTree.Element) -> Iterator[Area]:
    """The rectangles and circles drawn directly in a group."""
    for rect in group.findall(f"{SVG}rect"):
        x, y, w, h = (float(rect.get(key, "0")) for key in ("x", "y", "width", "height"))
        yield Area(x, y, x + w, y + h, rect.get("class", ""))
    for circle in group.findall(f"{SVG}circle"):
        x, y, r = (float(circle.get(key, "0")) for key in ("cx", "cy", "r"))
        yield Area(x - r, y - r, x + r, y + r, circle.get("class", ""))


def groups(drawn: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [group for group in drawn.iter(f"{SVG}g") if group.get("class") == kind]


def texts(group: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in group.findall(f"{SVG}text")]


def assert_legible(drawn: ElementTree.Element) -> None:
    """No text meets another, leaves the picture, its block or the chip that it is the middle of."""
    height = float(drawn.get("height", "0"))
    areas = sorted((text_area(e) for e in drawn.iter(f"{SVG}text")), key=lambda area: area.top)
    for i, area in enumerate(areas):
        assert area.what
        assert Area(0, 0, WIDTH, height).holds(area), area
        for other in areas[i + 1 :]:
            if other.top >= area.bottom:
                break
            assert not area.meets(other), (area, other)
    for group in groups(drawn, "block"):
        around = [area for area in shapes_in(group) if area.what == "card"][-1]
        inner = [area for area in shapes_in(group) if area.what not in ("card", "dot")]
        assert all(around.holds(area) for area in inner), texts(group)
        for element in group.findall(f"{SVG}text"):
            area = text_area(element)
            assert around.holds(area), area
            if element.get("text-anchor") == "middle":
                signs = (area.what in "+×−÷" and shape.meets(area) for shape in inner)
                assert any(shape.holds(area) for shape in inner) or any(signs), area


def assert_true(drawn: ElementTree.Element, tape: Tape, of: Outline) -> None:
    """Every block is in one box; every link between boxes is an edge, and the shapes on edges are those of the values."""
    drawn_boxes = groups(drawn, "block")
    held = [(group.get("data-blocks") or "").split() for group in drawn_boxes]
    assert [path for paths in held for path in paths] == [block.path or "." for block in of.blocks]
    assert all(
        (f"×{group.get('data-count')}" in texts(group)) == (group.get("data-count") != "1") for group in drawn_boxes
    )
    box_of = [i for i, paths in enumerate(held) for _ in paths]
    pairs: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    for link in links(tape, of):
        source = box_of[link.source] if link.source >= 0 else -1
        target = box_of[link.target] if link.target < len(of.blocks) else len(drawn_boxes)
        if source != target:
            pairs.setdefault((source, target), []).append(link.value.shape)
    edges = {int(g.get("data-source", "")): g for g in groups(drawn, "edge")}
    skips = {(int(g.get("data-source", "")), int(g.get("data-target", ""))) for g in groups(drawn, "skip")}
    assert {(i, i + 1) for i in edges} | {pair for pair in skips if pair[0] != pair[1]} == set(pairs)
    for source, group in edges.items():
        told = (group.get("data-shapes") or "").split()
        assert set(told) <= {words.shape(shape) for shape in pairs[source, source + 1]}
        if said := texts(group):
            assert said[0].removeprefix("↓ ").split(" and ")[:2] == told[:2]


FOREIGN = ["vgg16", "resnet50", "densenet121", "convnext_tiny", "inception_v3", "vit_b_16", "mobilenet_v3_small"]
NAMES = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in zoo.variants()]


@pytest.mark.filterwarnings(
    "ignore:The default weight initialization of inception_v3"
)  # torchvision's, and no weights are looked at
@pytest.mark.parametrize("name", [*NAMES, *(f"torchvision {name}" for name in FOREIGN)])
def test_every_network_is_drawn_legibly_and_truly(name: str) -> None:
    tape, stages = taped(name)
    for given in {stages, None}:
        svg = diagram(tape, title=name, stages=given)
        drawn = ElementTree.fromstring(svg)
        assert drawn.get("role") == "img" and name in (drawn.get("aria-label") or "")
        assert "<script" not in svg and "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert_legible(drawn)
        assert_true(drawn, tape, outline(tape, given))


def counts(name: str) -> list[list[int]]:
    """By stage: how many units each fold has."""
    tape, stages = taped(name)
    of = outline(tape, stages)
    folds = fold(tape, of).folds
    return [[len(f.units) for f in folds if f.stage == i] for i in range(len(of.stages))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet152", [[1], [1, 1, 2], [1, 7], [1, 35], [1, 2], [1, 1]]),
        ("vgg16", [[1, 1], [1, 1, 1], [1, 1, 2], [1, 1, 2], [1, 3], [1, 1, 1, 1, 1]]),
        ("densenet201", [[1], [1, 6], [1, 12], [1, 48], [1, 32, 1], [1, 1]]),
        ("nasnet_a_large", [[1], [1], [1, 1, 1, 4], [1, 1, 1, 4], [1, 1, 1, 4, 1], [1, 1]]),
    ],
)
def test_what_is_alike_is_folded(name: str, expected: list[list[int]]) -> None:
    """In a residual stage the first block stands apart; NASNet's first two cells read other shapes than those that follow."""
    assert counts(name) == expected


class Pair(nn.Module):
    """A block of two convolutions, and what may differ in it."""

    def __init__(self, window: int = 3, *, slope: float = 0.0, shortcut: bool = False) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, window, padding=window // 2)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.slope, self.shortcut = slope, shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(nn.functional.leaky_relu(self.first(x), self.slope))
        return x + y if self.shortcut else y


@pytest.mark.parametrize("other", [Pair(5), Pair(slope=0.1), Pair(shortcut=True), nn.Sequential(Pair())])
def test_a_block_that_differs_in_anything_is_not_folded(other: nn.Module) -> None:
    def folds(*blocks: nn.Module) -> list[int]:
        tape = record(nn.Sequential(nn.Sequential(*blocks)), torch.empty(1, 8, 9, 9))
        return [len(found.units) for found in fold(tape, outline(tape, ["0"])).folds]

    assert folds(Pair(), Pair(), Pair(), Pair()) == [4]
    assert folds(Pair(), Pair(), other, Pair()) == [2, 1, 1]


class Alternating(nn.Module):
    """Blocks that are alike and read from different places: each the one before it, or all the first."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Pair() for _ in range(3))
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        x = y = x * 2
        for block in self.blocks:
            y = block(x if self.first else y)
        return y


def test_alike_blocks_are_folded_only_if_they_are_wired_alike() -> None:
    found = {}
    for first in (True, False):
        tape = record(Alternating(first=first), torch.empty(1, 8, 9, 9))
        found[first] = [len(f.units) for f in fold(tape, outline(tape, [""])).folds]
    assert found == {True: [1, 1, 1, 1], False: [1, 3]}


def block_texts(name: str, path: str) -> list[str]:
    tape, stages = taped(name)
    drawn = ElementTree.fromstring(diagram(tape, stages=stages))
    (group,) = (g for g in groups(drawn, "block") if path in (g.get("data-blocks") or "").split())
    return texts(group)


def test_branches_and_shortcuts_come_from_the_flow_of_data() -> None:
    inception = block_texts("googlenet", "stages.stage3.3a")
    assert sorted(inception[2:]) == sorted(
        ["1×1 64", "1×1 96", "3×3 128", "1×1 16", "5×5 32", "max 3×3", "1×1 32", "concat"]
    )
    assert "+" in block_texts("resnet20_cifar", "stages.stage1.1")
    assert "+" not in block_texts("plain20_cifar", "stages.stage1.1")
    assert [text for text in block_texts("se_resnet18", "stages.stage1.1") if text in "+×"] == ["×", "+"]
    dense = block_texts("densenet121", "stages.stage1.3")
    assert dense[:1] == ["×6"] and "0–5 · each reads 32 maps more" in dense and "concat" in dense


def test_a_nasnet_cell_says_which_cells_it_reads() -> None:
    told = block_texts("nasnet_a_mobile", "stages.stage3.2")
    assert {"1 back", "2 back", "sep 5×5 88 ×2", "sep 3×3 88 ×2", "avg 3×3", "concat"} <= set(told)
    assert told.count("+") == 5


class Sums(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return x + y, x * y


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inner(self.inner(x)) + y


class Long(nn.Module):
    """A name that no box can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("a_path_that_goes_on_and_on_" * 6, nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        (Sums(), [(1, 3), (1, 3)]),
        (Shared(), [(1, 3, 5, 5), (1, 3, 5, 5)]),
        (Long(), [(1, 4)]),
        (nn.Identity(), [(2, 3)]),
        (nn.Conv2d(3, 4, 3), [(1, 3, 8, 8)]),
        (nn.LSTM(5, 6, num_layers=2), [(4, 2, 5)]),
        (nn.Transformer(16, 2, 2, 2, 32, batch_first=True), [(1, 7, 16), (1, 5, 16)]),
        (nn.Sequential(nn.Dropout(), nn.Identity()), [(3,)]),
        (nn.ConvTranspose3d(2, 4, 2, stride=2), [(1, 2, 3, 4, 5)]),
    ],
)
def test_any_module_is_drawn(model: nn.Module, shapes: list[tuple[int, ...]]) -> None:
    tape = record(model, *(torch.empty(shape) for shape in shapes))
    drawn = ElementTree.fromstring(diagram(tape, title="<a> & b " * 20))
    assert_legible(drawn)
    assert_true(drawn, tape, outline(tape))


def test_shared_parameters_are_counted_once() -> None:
    drawn = ElementTree.fromstring(diagram(record(Shared(), torch.empty(1, 3, 5, 5), torch.empty(1, 3, 5, 5))))
    assert "12 parameters · 450 mult-adds" in texts(drawn)


@pytest.mark.parametrize("seed", range(60))
def test_wires_pass_no_node_and_end_at_theirs(seed: int) -> None:
    draw = random.Random(seed)
    before: dict[int, list[int]] = {0: []}
    for n in range(1, draw.randint(2, 16)):
        before[n] = sorted(draw.sample(range(n), min(n, draw.randint(1, 3))))
    widths = {n: draw.choice((8, 16, 40, 90)) for n in before}
    placed = place(before, widths.__getitem__, room=draw.choice((0, 800)))
    areas = {n: Area(x - widths[n] / 2, y - 6, x + widths[n] / 2, y + 6, str(n)) for n, (x, y) in placed.at.items()}
    for n, area in areas.items():
        assert Area(-0.01, 0, placed.width + 0.01, placed.height).holds(area)
        assert not any(area.meets(other) for m, other in areas.items() if m != n)
    ends = {(n, m): False for m, sources in before.items() for n in sources}
    for wire in placed.wires:
        source = next(n for n, (x, y) in placed.at.items() if wire[0] == (x + widths[n] / 2, y))
        target = next(n for n, (x, y) in placed.at.items() if wire[-1] == (x - widths[n] / 2, y))
        ends[source, target] = True
        for (x0, y0), (x1, y1) in pairwise(wire):
            assert x0 == x1 or (y0 == y1 and x0 < x1)
            line = Area(min(x0, x1), min(y0, y1) - 0.1, max(x0, x1), max(y0, y1) + 0.1)
            assert not any(line.meets(area) for n, area in areas.items()), (seed, wire)
    assert all(ends.values())


@pytest.mark.parametrize("name", ["nasnet_a_large", "fractalnet40_cifar", "googlenet", "se_resnet50", "densenet121"])
def test_wires_that_share_no_end_share_no_line(name: str) -> None:
    """Two wires may cross; one that ran along another would be read as joined to it."""
    tape, stages = taped(name)
    for box in boxes(tape, fold(tape, outline(tape, stages))):
        wires = box.placed.wires if box.placed else ()
        for one, other in combinations(wires, 2):
            if one[0] == other[0] or one[-1] == other[-1]:
                continue
            for line, beside in product(pairwise(one), pairwise(other)):
                for along, across in ((0, 1), (1, 0)):
                    if len({point[across] for point in (*line, *beside)}) == 1:
                        (a, b), (c, d) = (sorted(point[along] for point in ends) for ends in (line, beside))
                        assert min(b, d) <= max(a, c), (box.title, one, other)


def test_widths_are_no_less_than_a_font_s() -> None:
    font = ImageFont.load_default(size=20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    for text in (
        "Convolution + batch norm + ReLU",
        "DenseLayer",
        string.ascii_letters,
        string.digits,
        "512, 32 groups /2",
    ):
        assert text_width(text, 20) >= font.getlength(text)
    assert shortened("convolution", 11, text_width("convolution", 11)) == "convolution"
    assert shortened("convolution", 11, 40).endswith("…")
    assert text_width(shortened("convolution", 11, 40), 11) <= 40


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (25_557_032, "25.6 M"),
        (4_089_184_256, "4.09 G"),
        (138_357_544, "138 M"),
        (999_960, "1.00 M"),
        (156, "156"),
        (0, "0"),
    ],
)
def test_numbers_are_written_as_in_papers(value: int, told: str) -> None:
    assert words.number(value) == told


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("InvertedResidual", "inverted residual"),
        ("_DenseLayer", "dense layer"),
        ("CNBlock", "CN block"),
        ("SparseConv2d", "sparse convolution"),
        ("Bneck", "bneck"),
    ],
)
def test_classes_are_told_in_words(kind: str, told: str) -> None:
    assert words.of_class(kind) == told


class Asserting(nn.Module):
    """Ends in an operation that makes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        torch.ops.aten._assert_async(torch.ones((), device=x.device))
        return y


def test_an_operation_that_makes_nothing_is_drawn_over() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), Asserting(), nn.Conv2d(4, 4, 1))
    assert diagram(record(model, torch.empty(1, 3, 8, 8, device="meta"))).startswith("<svg")


def test_nodes_come_after_those_that_they_read_in_the_order_given_where_that_does() -> None:
    assert list(_in_order({0: [], 1: [0], 2: [1, 3], 3: [0], 4: [2]})) == [0, 1, 3, 2, 4]
    assert list(_in_order({0: [], 2: [0], 1: [0], 3: [1, 2]})) == [0, 2, 1, 3]
