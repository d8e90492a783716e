"""The tape holds what ran, where, on which values; and the model is left as it was."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas import zoo
from convatlas.analysis.record import UnrunnableError, record
from convatlas.analysis.tape import Tape, Value


def kinds(tape: Tape) -> list[str]:
    return [op.kind.removeprefix("aten.") for op in tape.ops]


class Shared(nn.Module):
    """One convolution called twice, a functional one, and a sum in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.weight = nn.Parameter(torch.randn(2, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.conv(x))
        y += x
        return F.conv2d(y, self.weight)


def test_shared_modules_and_functional_calls_are_seen_as_they_run() -> None:
    tape = record(Shared(), torch.empty(1, 4, 8, 8))
    assert kinds(tape) == ["convolution", "convolution", "add_", "convolution"]
    assert [tape.calls[op.call].path for op in tape.ops] == ["conv", "conv", "", ""]
    assert [call.path for call in tape.calls] == ["", "conv", "conv"]
    assert {name: value.shape for name, value in tape.state.items()} == {
        "weight": (2, 4, 1, 1),
        "conv.weight": (4, 4, 3, 3),
    }
    assert tape.outputs[0].shape == (1, 2, 8, 8)
    assert tape.tensors == "meta"


def test_an_operation_in_place_makes_a_new_value_of_the_same_memory() -> None:
    tape = record(Shared(), torch.empty(1, 4, 8, 8))
    second, added = tape.ops[1].makes[0], tape.ops[2].makes[0]
    assert added.number != second.number
    assert added.storage == second.storage
    assert tape.ops[3].reads[0] == added


class ThroughAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y[:, :1].zero_()  # writes into y through a view of it
        return y + 1


def test_what_is_written_through_a_view_is_read_by_who_reads_the_base() -> None:
    tape = record(ThroughAView(), torch.empty(1, 3, 4, 4))
    written = next(op for op in tape.ops if op.kind == "aten.zero_").makes[0]
    assert written in next(op for op in tape.ops if op.kind == "aten.add").reads


@pytest.mark.parametrize("name", ["resnet20_cifar", "googlenet_bn", "nasnet_a_cifar", "lenet5", "densenet_40_12_cifar"])
def test_every_value_is_made_before_it_is_read(name: str) -> None:
    size, classes = zoo.native(name)
    tape = record(zoo.build(name, num_classes=classes, in_channels=size[0]), torch.empty(2, *size))
    known = {v.number for v in (*tape.state.values(), *tape.inputs)}
    for op in tape.ops:
        assert all(v.number in known or v.origin == "constant" for v in op.reads), op.kind
        known |= {v.number for v in op.makes}
    assert tape.outputs[0].shape == (2, classes)
    assert all(call.finished for call in tape.calls)
    assert tape.trainable == {
        key for key, _ in zoo.build(name, num_classes=classes, in_channels=size[0]).named_parameters()
    }


class Choosing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_control_flow_on_data_runs_on_real_tensors() -> None:
    tape = record(Choosing(), torch.ones(1, 3))
    assert tape.tensors == "real"
    assert "mul" in kinds(tape)


class Nested(nn.Module):
    def forward(self, first: Tensor, *, more: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return first + more["a"], {"b": more["a"] * 2}


def test_inputs_and_outputs_of_any_structure() -> None:
    tape = record(Nested(), torch.empty(2, 3), more={"a": torch.empty(3)})
    assert [v.shape for v in tape.inputs] == [(2, 3), (3,)]
    assert [v.shape for v in tape.outputs] == [(2, 3), (3,)]


@dataclass
class Answer:
    logits: Tensor
    maps: dict[str, Tensor]


class Answering(nn.Module):
    def forward(self, x: Tensor) -> Answer:
        return Answer(x.mean((2, 3)), {"last": x})


class Asking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = Answering()

    def forward(self, x: Tensor) -> Answer:
        assert x.shape[1] == 3, "images must have 3 channels"
        return self.inside(x * 2)


def test_outputs_in_a_dataclass_are_seen() -> None:
    tape = record(Asking(), torch.empty(1, 3, 4, 4))
    assert [v.shape for v in tape.outputs] == [(1, 3), (1, 3, 4, 4)]
    assert [v.shape for v in tape.calls[1].outputs] == [(1, 3), (1, 3, 4, 4)]


def test_whatever_the_network_raises_says_where() -> None:
    with pytest.raises(UnrunnableError, match="Asking cannot take 1×1×4×4: images must have 3 channels"):
        record(Asking(), torch.empty(1, 1, 4, 4))


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[2].eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    record(model, torch.empty(1, 3, 8, 8))
    assert [module.training for module in model] == [True, True, False]
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(p.device.type == "cpu" for p in model.parameters())


class Keeping(nn.Module):
    """Keeps what it makes, and needs real numbers after that."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None
        self.all: dict[str, Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        if self.last is None:
            self.last = self.all["x"] = torch.arange(3.0, device=x.device)
            self.register_buffer("kept", x + 1)
        return x * self.last * self.all["x"] if bool((x + self.last).sum() > 0) else x


def test_nothing_that_a_network_keeps_stays_behind() -> None:
    model = Keeping().train()
    tape = record(model, torch.ones(1, 3))
    assert tape.tensors == "real"  # where the tensors of the other two attempts would be in the way
    assert (model.last, model.all, dict(model.named_buffers()), model.training) == (None, {}, {}, True)


def test_a_network_that_cannot_run_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnrunnableError, match="smaller than kernel size"):
        record(nn.AvgPool3d(7), torch.empty(1, 1, 2, 2, 2))
    assert capfd.readouterr().err == ""


class TwoParents(nn.Module):
    """A module with two names, and a weight that two modules hold."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(4, 4))
        self.second = nn.Sequential(self.first[0], nn.Linear(4, 4))
        self.second[1].weight = self.first[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_model_with_shared_modules_and_weights_is_left_as_it_was_too() -> None:
    model = TwoParents()
    tape = record(model, torch.empty(1, 4))
    assert tape.tensors == "meta"
    assert list(tape.state) == ["first.0.weight", "first.0.bias", "second.1.bias"]
    assert model.second[0] is model.first[0] and model.second[1].weight is model.first[0].weight
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert [call.path for call in tape.calls] == ["", "first", "first.0", "second", "first.0", "second.1"]
    weights = [value for op in tape.ops for value in op.reads if value.name.endswith("weight")]
    assert {value.number for value in weights} == {tape.state["first.0.weight"].number}


def test_where_shapes_do_not_fit_both_layers_are_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(9, 8, 3)))
    with pytest.raises(
        UnrunnableError, match=r"after 0 \(Conv2d\) gave 1×8×6×6, 1\.0 \(Conv2d\) cannot take 1×8×6×6: .*9 channels"
    ):
        record(model, torch.empty(1, 3, 8, 8))


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(UnrunnableError, match='Module .* is missing the required "forward" function'):
        record(nn.Module(), torch.empty(1))


class Calling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.scaled_dot_product_attention(x, x, x)
        return torch.mul(self.norm(x), 2) + torch.einsum("bij,bkj->bik", x, x)


def test_operations_name_the_function_of_torch_that_ran_them() -> None:
    tape = record(Calling(), torch.empty(2, 6, 6))
    by_function: dict[object, set[str]] = {}
    for op in tape.ops:
        by_function.setdefault(op.function, set()).add(op.kind.removeprefix("aten."))
    assert {"bmm", "_safe_softmax"} <= by_function[F.scaled_dot_product_attention]
    assert by_function[F.layer_norm] == {"native_layer_norm"}
    assert by_function[torch.mul] == {"mul"}
    assert by_function[Tensor.add] == {"add"}  # the operator
    assert "bmm" in by_function[torch.einsum]


def test_sizes_of_values() -> None:
    value = Value(0, (2, 3, 4), torch.float16, 0, "made")
    assert (value.elements, value.bytes_) == (24, 48)
    assert Value(0, (), torch.float32, 0, "made").elements == 1
