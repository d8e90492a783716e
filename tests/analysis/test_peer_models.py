"""Other libraries' networks: the tape's mult-adds are half of what torch's own counter says of the same pass, and nothing is left out.

The names are in `peer_models.txt`: all classifiers of torchvision, and of timm's models every 14th by name and the first of each of its
files. Each runs at the size it was made for, on `meta`, where attention is the products that it consists of (on the CPU it is one operation
that the counter does not see).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.analysis.cost import total
from convatlas.analysis.record import record

NAMES = (Path(__file__).parent / "peer_models.txt").read_text().split()
QUICK = [f"torchvision/{name}" for name in ("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet")]
QUICK += [
    f"torchvision/{name}" for name in ("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v3_small", "resnet18")
]
QUICK += [f"torchvision/{name}" for name in ("regnet_y_400mf", "squeezenet1_1", "swin_v2_t", "vgg11", "vit_b_32")]
QUICK += [f"timm/{name}" for name in ("botnet26t_256", "darknet21", "hieradet_small", "test_vit3", "volo_d1_224")]
SIDES = {"inception_v3": 299, "efficientnet_v2_s": 384, "efficientnet_v2_m": 480, "efficientnet_v2_l": 480}
SIDES |= {f"efficientnet_b{i}": side for i, side in enumerate((224, 240, 288, 300, 380, 456, 528, 600))}

# What no rule covers, by model. Such a total says that it is partial.
PARTIAL = {
    "timm/naflexvit_base_patch16_gap": {"_upsample_bicubic2d_aa"},  # resizes its map of positions with antialiasing
}


def made_on_meta(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Without memory for weights where the library can, and the size of an image."""
    library, model_name = name.split("/")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, at import and about features that change
        if library == "timm":
            import timm

            with torch.device("meta"):
                model: Any = timm.create_model(model_name, pretrained=False)
            return model.eval(), model.default_cfg["input_size"]
        from torchvision.models import get_model

        fields = {"init_weights": False} if model_name in ("googlenet", "inception_v3") else {}  # minutes on a CPU
        # a RegNet's widths are worked out on tensors, which must hold numbers
        with torch.device("cpu" if model_name.startswith("regnet") else "meta"):
            model = get_model(model_name, weights=None, **fields)
    side = SIDES.get(model_name, 224)
    return model.to("meta").eval(), (3, side, side)


def halved_count(model: nn.Module, image: Tensor) -> int:
    model.requires_grad_(
        False
    )  # the counter follows gradients otherwise, and stumbles over a parameter that a module is given
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_mult_adds_are_half_of_torch_s_count_and_every_operation_is_covered(name: str) -> None:
    model, size = made_on_meta(name)
    image = torch.empty(1, *size, device="meta")
    tape = record(model, image)
    found = total(tape.ops)
    assert tape.tensors == "meta"
    assert found.mult_adds == halved_count(model, image) > 0
    assert set(found.uncounted) == PARTIAL.get(name, set())
    assert found.status == ("partial" if name in PARTIAL else "complete")


@pytest.mark.slow
def test_the_names_are_those_of_the_rule() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their own, at import
        import timm
        import torchvision

    models = sorted(timm.list_models())
    firsts = {min(found) for module in timm.list_modules() if (found := timm.list_models(module=module))}
    expected = [f"torchvision/{name}" for name in torchvision.models.list_models(module=torchvision.models)]
    expected += [f"timm/{name}" for name in sorted({*models[::14], *firsts})]
    assert expected == NAMES
    assert set(QUICK) <= set(NAMES)
