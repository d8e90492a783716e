"""Every network that torchvision or timm has too: their weights load strictly under our names and give their numbers, and the way back."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas import catalogue, zoo
from convatlas.weights.load import in_layout, load_tensors, to_our_keys
from peers import largest_difference, peer

ELSEWHERE = {other: (name, fields) for family in zoo.FAMILIES for other, (name, fields) in family.ELSEWHERE.items()}


LARGE = 40_000_000  # parameters


def slow(other: str) -> bool:
    """Whether it takes long, or torchvision has the network as well: one of the two is enough for the quick suite."""
    network = catalogue.networks()[ELSEWHERE[other][0]]
    twice = other.startswith("timm/") and any(name.startswith("torchvision/") for name in network.elsewhere)
    return twice or network.parameters > LARGE


@pytest.fixture(autouse=True)
def one_at_a_time() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.parametrize(
    "other", [pytest.param(o, marks=pytest.mark.slow) if slow(o) else o for o in sorted(ELSEWHERE)]
)
def test_their_weights_give_their_numbers(other: str) -> None:
    torch.manual_seed(0)
    name, fields = ELSEWHERE[other]
    googlenet = {"init_weights": False, "aux_logits": False} if other == "torchvision/googlenet" else {}
    model = peer(other, **googlenet)
    state = model.state_dict()
    ours = zoo.build(name, config=replace(zoo.config_of(name), **fields)).eval()
    tensors = to_our_keys(Path(other), state, zoo.family_of(name).keys(ours.config))
    assert load_tensors(ours, tensors, origin=other) == ()
    side = 75 if name.startswith("nasnet") else 64  # odd, since padding as TensorFlow does it depends on it
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        assert largest_difference(ours(images), model(images)) <= 1e-5
    doubled, their_doubled = ours.double(), model.double()
    images = images.double().requires_grad_()
    weights = torch.randn(2, 1000, dtype=torch.float64)
    outputs, gradients = [], []
    for net in (doubled, their_doubled):
        logits = net(images)
        outputs.append(logits.detach())
        gradients.append(torch.autograd.grad((logits * weights).sum(), images)[0])
    assert largest_difference(*outputs) <= 1e-10
    assert largest_difference(*gradients) <= 1e-10
    library = other.split("/")[0]
    layout = "legacy" if "/legacy" in other else library
    their_doubled.load_state_dict(in_layout(ours, name, layout))  # strict


def test_every_network_that_they_have_is_compared() -> None:
    """By their own lists: a name of theirs that is a name of ours must be in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, at import
        import timm
        import torchvision

    known = {f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)}
    known |= {f"timm/{name}" for name in timm.list_models()}
    assert set(ELSEWHERE) <= known
    ours = set(zoo.variants())
    same_name_other_network = {"torchvision/alexnet", "torchvision/googlenet", "timm/senet154"}
    assert {k for k in known if k.split("/")[1] in ours} - set(ELSEWHERE) <= same_name_other_network
