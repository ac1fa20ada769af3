"""Arguments of forward, and which of their axes are open, without an export."""

from __future__ import annotations

import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf.frontends.torch import export as torch_export
from sofie_rdf.frontends.torch.inputs import (
    Inputs,
    Signature,
    array_of,
    examples_of,
    inputs_of,
    random_arguments,
)
from tests.frontends.torch import modules


class Several(nn.Module):
    def forward(self, x: Tensor, *more: Tensor, flag: bool = True, **named: Tensor) -> Tensor:
        return x + sum(more) + sum(named.values()) + flag


def inputs(module: nn.Module, example: Any, dynamic: Any = None) -> Inputs:
    signature = Signature(module)
    return inputs_of(examples_of(example, signature), dynamic, signature)


def axes(found: Inputs) -> dict[str, dict[int, str]]:
    return {leaf.name: dict(leaf.axes) for leaf in found.tensors}


def test_every_first_axis_is_the_batch() -> None:
    found = inputs(modules.Nested(), modules.nested().example)
    batch = {0: "N"}
    assert axes(found) == {"x": batch, "more_0": batch, "more_1_k": batch, "last": batch}
    args, kwargs = found.with_tensors([leaf.example * 0 for leaf in found.tensors])
    assert args[1] is True
    assert list(args[2][1]) == ["k"]
    assert not kwargs["last"].any()


def test_first_axes_of_other_sizes_have_names_of_their_own() -> None:
    given = (torch.ones(5, 3), torch.zeros(2, 9, dtype=torch.int64))
    assert axes(inputs(modules.Messages(), given)) == {
        "x": {0: "N"},
        "edge_index": {1: "edge_index_1"},
    }
    assert axes(inputs(modules.Loop(), (torch.ones(5, 3), torch.tensor(3)))) == {
        "x": {0: "N"},
        "rounds": {},
    }


@pytest.mark.parametrize(
    "dynamic",
    [
        {"x": {0: "n"}, "edge_index": {1: "e"}},
        {"x": {-2: "n"}, "edge_index": {-1: "e"}},
        [{0: "n"}, {1: "e"}],
        ({0: torch.export.Dim("n")}, {1: torch.export.Dim("e")}),
    ],
)
def test_axes_that_are_named(dynamic: Any) -> None:
    given = (torch.ones(5, 3), torch.zeros(2, 9, dtype=torch.int64))
    found = inputs(modules.Messages(), given, dynamic)
    assert axes(found) == {"x": {0: "n"}, "edge_index": {1: "e"}}
    assert found.sizes == {"n": 5, "e": 9}
    larger = found.at({"e": 20, "n": 2})
    assert [tuple(leaf.example.shape) for leaf in larger.tensors] == [(2, 3), (2, 20)]


def test_axes_without_names_and_none_at_all() -> None:
    given = (torch.ones(5, 3), torch.zeros(5, 9))
    assert axes(inputs(modules.Messages(), given, [[0, 1], None])) == {
        "x": {0: "N", 1: "x_1"},
        "edge_index": {},
    }
    for nothing in (False, {}, [], [{}, {}]):
        assert axes(inputs(modules.Messages(), given, nothing)) == {"x": {}, "edge_index": {}}
    assert axes(inputs(modules.Messages(), given, True))["x"] == {0: "N"}


def test_nested_arguments_and_all_kinds_of_parameters() -> None:
    dynamic = {"x": {0: "N"}, "more": [{0: "N"}, {"k": {1: "T"}}]}
    found = inputs(modules.Nested(), modules.nested().example, dynamic)
    assert axes(found) == {"x": {0: "N"}, "more_0": {0: "N"}, "more_1_k": {1: "T"}, "last": {}}
    given = (torch.ones(2), 2 * torch.ones(2), torch.ones(2))
    found = inputs(Several(), given)
    assert list(axes(found)) == ["x", "more_0", "more_1"]
    found = inputs(Several(), given, [{0: "N"}, None, {0: "N"}])
    assert axes(found) == {"x": {0: "N"}, "more_0": {}, "more_1": {0: "N"}}
    found = inputs(Several(), {"x": torch.ones(2), "flag": False, "a": torch.ones(2)})
    args, kwargs = found.with_tensors([torch.zeros(2), torch.ones(2)])
    assert Several()(*args, **kwargs).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("dynamic", "words"),
    [
        ({"y": {0: "N"}}, "dynamic= names 'y', which is no input"),
        ("N", "dynamic= is 'N'"),
        (3, "dynamic= is 3"),
        ([{}, {}, {}], "is for 3 inputs, which are more than"),
        ({"x": "N"}, "dynamic= gives input 'x' 'N'"),
        ({"x": {2: "N"}}, "names axis 2 of input 'x', which has 2"),
        ({"x": {0: 5}}, "calls axis 0 of input 'x' 5"),
        ({"x": {0: "not a name"}}, "calls axis 0 of input 'x' 'not a name'"),
        ({"x": {0: "N", 1: "N"}}, r"give 'N' the sizes 5 \(axis 0 of 'x'\) and 3"),
    ],
)
def test_wrong_axes(dynamic: Any, words: str) -> None:
    with pytest.raises(sofie.InputError, match=words):
        inputs(modules.Messages(), (torch.ones(5, 3), torch.zeros(2, 9)), dynamic)


def test_random_arguments_until_the_module_runs() -> None:
    """Nearest neighbours need so many particles; a U-Net needs even sizes."""
    module = modules.particlenet().module.eval()
    shapes = ["N,2,P", ("N", 4, "P"), (("N", 1, "P"), "float32")]
    found, dynamic = random_arguments(
        shapes, Signature(module), torch.float32, lambda arrays: module(*arrays)
    )
    assert [tuple(t.shape) for t in found.values()] == [(3, 2, 5), (3, 4, 5), (3, 1, 5)]
    assert dynamic == {n: {0: "N", 2: "P"} for n in ("points", "features", "mask")}

    def pooled(arrays: tuple[Tensor, ...]) -> Tensor:
        return arrays[0].reshape(3, 8, -1)

    tensors, _ = random_arguments(["N,P"], Signature(nn.ReLU()), torch.float64, pooled)
    assert tensors["input"].shape == (3, 16)
    assert tensors["input"].dtype == torch.float64


def test_numbers_of_all_types() -> None:
    assert array_of(torch.ones(2, dtype=torch.bfloat16)).dtype == ml_dtypes.bfloat16
    assert array_of(torch.ones(2, 3).T).tolist() == np.ones((3, 2)).tolist()
    assert array_of(torch.tensor([True])).dtype == bool


def test_torch_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_export, "find_spec", lambda name: None if name == "torch" else 1)
    with pytest.raises(sofie.MissingDependency, match=r"need torch\. pip install torch onnxscript"):
        sofie.from_torch(nn.Linear(2, 1), torch.ones(2, 2))


def test_importing_sofie_rdf_imports_no_torch() -> None:
    import subprocess

    code = "import sys, sofie_rdf; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
