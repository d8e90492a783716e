"""The analyser beside torchinfo, fvcore and ptflops: from a name to the full report, each tool as its users call it.

In one process, in turn: each side makes the model from its name and writes its most detailed report as text. Ours has more in it: memory,
receptive fields, the other three tools' totals. The peers get torchvision's model with its initialisation, as their documentation
shows; below also a model on `meta`, which spares them the initialisation and the arithmetic, where they can take it.
"""

from __future__ import annotations

import contextlib
import gc
import io
import itertools
import logging
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import fvcore.nn
import ptflops
import torch
import torchinfo
import torchvision
from torch import nn
from torch.profiler import ProfilerActivity, profile

import convatlas
from convatlas import catalogue
from measuring import interleaved, python, ratios, section, spread, table, target

SIZE = (3, 224, 224)
NETS = (
    *("alexnet_owt", "vgg16", "resnet18", "resnet152", "densenet121"),
    *("googlenet_bn", "mobilenet_v2", "mobilenet_v3_large", "wide_resnet50_2", "resnext50_32x4d"),
)
LARGE_FC = ("alexnet_owt", "vgg16")  # most of their parameters are in fully connected layers, costly to initialise
ROUNDS = 7
THEIRS = {"alexnet_owt": "alexnet", "googlenet_bn": "googlenet"}  # torchvision's names where they differ

RESIDENT = """
import pathlib, re, torch, convatlas
from convatlas.jobs.analyse import analyse

def resident(key):
    return int(re.search(key + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text()).group(1)) * 1024

before = resident("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")
report = analyse("vgg19").markdown("layer")
print(resident("VmHWM") - before)
"""


def built(name: str, device: str) -> nn.Module:
    """torchvision's model."""
    options = {"aux_logits": False, "init_weights": True} if "googlenet" in name else {}
    with torch.device(device):
        return torchvision.models.get_model(THEIRS.get(name, name), weights=None, **options).eval()


def ours(name: str, device: str) -> str:
    return convatlas.analyse(name, SIZE).markdown("layer")


def with_torchinfo(name: str, device: str) -> str:
    columns = ("input_size", "output_size", "num_params", "params_percent", "kernel_size", "mult_adds", "trainable")
    model = built(name, device)
    return str(torchinfo.summary(model, (1, *SIZE), col_names=columns, depth=9, verbose=0, device=device))


def with_fvcore(name: str, device: str) -> str:
    model = built(name, device)
    count = fvcore.nn.FlopCountAnalysis(model, torch.zeros(1, *SIZE, device=device))
    return fvcore.nn.flop_count_table(count, max_depth=9, activations=None)


def with_ptflops(name: str, device: str) -> str:
    told = io.StringIO()
    model = built(name, device)
    with contextlib.redirect_stdout(io.StringIO()):
        ptflops.get_model_complexity_info(model, SIZE, print_per_layer_stat=True, ost=told, backend="pytorch")
    return told.getvalue()


PEERS: dict[str, Callable[[str, str], str]] = {
    "torchinfo": with_torchinfo,
    "fvcore": with_fvcore,
    "ptflops": with_ptflops,
}


def seconds(side: Callable[[str, str], str], name: str, device: str) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        assert len(side(name, device)) > 100
        return time.perf_counter() - started

    return run


def takes_meta(side: Callable[[str, str], str]) -> bool:
    try:
        return bool(side("resnet18", "meta"))
    except Exception as error:  # whatever it is that the tool cannot do
        print(f"  {side.__name__} on meta: {type(error).__name__}", file=sys.stderr)
        return False


def compared(
    device: str, peers: dict[str, Callable[[str, str], str]]
) -> tuple[list[tuple[object, ...]], dict[str, float]]:
    """A row for each network, and for each the median of the fastest peer's time over ours."""
    rows: list[tuple[object, ...]] = []
    faster: dict[str, float] = {}
    for name in NETS:
        sides = {"ours": seconds(ours, name, device), **{n: seconds(side, name, device) for n, side in peers.items()}}
        for warm_up in sides.values():
            warm_up()
        runs = interleaved(ROUNDS, **sides)
        each = {peer: ratios(runs[peer], runs["ours"]) for peer in peers}
        best = min(peers, key=lambda peer: statistics.median(each[peer]))
        faster[name] = statistics.median(each[best])
        rows.append((name, spread(runs["ours"]), *(spread(each[peer]) for peer in peers), best))
    return rows, faster


def allocated(run: Callable[[], object]) -> tuple[int, int]:
    """What torch's CPU allocator handed out in `run`: the most at once, and what is left with the result."""
    gc.collect()  # what is freed of others' would count
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        result = run()
    watching: Any = watched.profiler
    events = [event for event in watching.kineto_results.events() if event.name() == "[memory]"]
    held = list(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))
    del result
    return max(held), held[-1]


def memory_row(name: str) -> tuple[tuple[object, ...], tuple[float, float, float]]:
    """Measured over predicted: the peak of a pass, what a training pass leaves, and the peak of a step."""
    network = catalogue.find(name)
    model = convatlas.create(name, num_classes=network.num_classes)
    images = torch.randn(4, *network.input_size)
    found = convatlas.analyse(model, network.input_size, batch=4, training_batch=4)
    memory = found.training[0].memory
    with torch.inference_mode():
        model.eval()(images)
        peak, _ = allocated(lambda: model(images))
    model.train()(images)
    _, left = allocated(lambda: model(images))
    model.zero_grad(set_to_none=True)
    step, _ = allocated(lambda: model(images).sum().backward())
    predicted = (found.peak.bytes_, memory.saved, memory.saved + memory.gradients)
    ratios_ = tuple(
        measured / (expected - images.nbytes) for measured, expected in zip((peak, left, step), predicted, strict=True)
    )
    megabytes = [f"{expected / 1e6:,.0f}" for expected in predicted]
    cells = [cell for pair in zip(megabytes, (f"{ratio:.3f}" for ratio in ratios_), strict=True) for cell in pair]
    return (name, *cells), ratios_  # type: ignore[return-value] - three, as there are three pairs


def geometric(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def main() -> None:
    warnings.filterwarnings("ignore", category=UserWarning)  # torchvision's, on initialising GoogLeNet
    logging.getLogger("fvcore").setLevel(logging.ERROR)  # its warnings of what it skips, on every network
    resident = int(python("-c", RESIDENT).output)
    rows, faster = compared("cpu", PEERS)
    quick = {name: side for name, side in PEERS.items() if takes_meta(side)}
    meta_rows, meta_faster = compared("meta", quick)
    memory = [memory_row(name) for name in NETS]
    peaks, lefts, steps = zip(*(ratios_ for _, ratios_ in memory), strict=True)
    without = [ratio for name, ratio in faster.items() if name not in LARGE_FC]
    on_meta = geometric(list(meta_faster.values()))
    missing = [name for name in PEERS if name not in quick]
    section(
        "The analyser",
        "From a network's name to the whole report as text, the model made on the way: seconds of ours, then each peer's time over ours, "
        f"medians of {ROUNDS} rounds in one process (least–greatest). "
        f"Without {' and '.join(LARGE_FC)}, whose large fully connected layers the peers initialise, the geometric mean is "
        f"{geometric(without):.1f}; with peers given models on `meta`, {on_meta:.1f}"
        f"{' (' + ', '.join(missing) + ' cannot take these)' if missing else ''}. "
        "Ours reports memory, training memory at every freeze depth, receptive fields and the peers' own totals besides.",
        table(("network", "ours", *(f"{peer} / ours" for peer in PEERS), "fastest peer"), rows),
        "With peers given models on `meta`:\n\n"
        + table(("network", "ours", *(f"{peer} / ours" for peer in quick), "fastest peer"), meta_rows),
        "Memory predicted for 4 images, in MB without the images, and what torch's CPU allocator handed out over it: the peak of a pass "
        f"without gradients ({min(peaks):.2f} to {max(peaks):.2f}, above 1 by what kernels take), what a training pass keeps "
        f"({min(lefts):.3f} to {max(lefts):.3f}), and the peak of a training step over saved activations and gradients together "
        f"({min(steps):.2f} to {max(steps):.2f}: gradients come as activations go, and kernels need room).\n\n"
        + table(
            ("network", "forward peak", "measured / it", "saved", "measured / it", "saved + gradients", "step / it"),
            [cells for cells, _ in memory],
        ),
        targets=[
            target(
                "geometric mean at least 2 × faster than the fastest peer of each network",
                f"{geometric(list(faster.values())):.1f}",
                geometric(list(faster.values())) >= 2,
            ),
            target("never slower on any", f"{min(faster.values()):.2f} at worst", min(faster.values()) >= 1),
            target("resident memory grows by at most 50 MB on VGG-19", f"{resident / 1e6:.0f} MB", resident <= 50e6),
        ],
        peers=("torchvision", "torchinfo", "fvcore", "ptflops"),
    )


if __name__ == "__main__":
    main()
