"""What a stranger's file is called, and calls things, is shown: it must not steer the terminal."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError
from sofie_rdf.summary import explanation

# Another title of the window, a cleared screen, text from right to left, a line overwritten.
EVIL = ("\x1b]0;x\x07", "\x1b[2J", "\x9b31m", "\u202e", "a\rb", "\x00", "\u2028", "\u200b")


def proto(evil: str, operator: str = "Relu") -> onnx.ModelProto:
    """Names of everything that begin with these characters."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", [f"{evil}x", f"{evil}w"], [f"{evil}a"], name=f"{evil}1"),
        helper.make_node(operator, [f"{evil}a"], [f"{evil}y"], name=f"{evil}2"),
    ]
    ports = [
        [value(f"{evil}{n}", TensorProto.FLOAT, [f"{evil}N", k])] for n, k in (("x", 3), ("y", 2))
    ]
    weights = [numpy_helper.from_array(np.ones((3, 2), np.float32), f"{evil}w")]
    graph = helper.make_graph(nodes, f"{evil}net", *ports, weights)
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
        producer_name=f"{evil}producer",
        producer_version=evil,
    )


def is_harmless(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("evil", EVIL)
def test_what_a_model_says_of_itself(evil: str) -> None:
    model = sofie.from_onnx(proto(evil))
    named = model.named(features=[f"{evil}{i}" for i in range(3)], labels=[f"{evil}b", "c"])
    texts = [explanation(model.graph), repr(model.inputs), str(sofie.ModelError(evil, place=evil))]
    for one in (model, named):
        texts += [repr(one), str(one), one._repr_html_()]
    assert all(map(is_harmless, texts))


@pytest.mark.parametrize("evil", EVIL)
def test_errors_with_names_of_a_file(evil: str) -> None:
    with pytest.raises(SofieError) as error:
        sofie.from_onnx(proto(evil, f"{evil}Unknown"))
    assert is_harmless(str(error.value)) and "Unknown" in str(error.value)
    problems = sofie.check(proto(evil, f"{evil}Unknown").SerializeToString())
    assert problems and all(is_harmless(str(one)) for one in problems)
