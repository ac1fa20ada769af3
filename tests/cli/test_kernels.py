"""`sofie-rdf inspect --kernels`: what it says is what the emitted header calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sofie_rdf as sofie
from sofie_rdf.bench.networks import NETWORKS
from sofie_rdf.ir.dims import evaluate, symbols_of, total
from tests.cli.conftest import DATA, HIGGS, Run
from tests.cli.test_json import keys, promised


def kernels(run: Run, file: Path, *options: str) -> dict[str, Any]:
    done = run("inspect", file, "--kernels", "--json", *options)
    assert (done.code, done.err) == (0, "")
    (found,) = json.loads(done.out)["models"]
    assert keys(found) - found["sizes"].keys() <= promised(run("inspect", "--help").out)
    assert isinstance(found, dict)
    return found


def saved(graph: onnx.GraphProto, path: Path) -> None:
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)


@pytest.mark.parametrize("file", ["jet_tagger.onnx", "particlenet.onnx"])
def test_the_header_calls_these_in_this_order(run: Run, tmp_path: Path, file: str) -> None:
    found = kernels(run, DATA / file)
    sofie.load(DATA / file).emit(tmp_path)
    (header,) = tmp_path.glob("*.hxx")
    text, place = header.read_text(), 0
    for node in found["nodes"]:
        assert f'#include "sofie/{node["header"]}"' in text
        place = text.index(f"sofie::{node['kernel'].partition('<')[0]}", place) + 1
        assert all(f"{name.partition('<')[0]}" in text for name in node["packed"])


def test_scratch_memory_is_that_of_the_sizes(run: Run) -> None:
    def scratch(batch: int) -> int:
        found = kernels(run, DATA / "jet_energy.onnx", "--batch", str(batch))
        assert found["sizes"]["N"] == batch
        return sum(node["scratch"] for node in found["nodes"])

    model = sofie.load(DATA / "jet_energy.onnx").optimized
    spaces = total(t.nbytes for node in model.nodes for t in model.workspace(node).values())
    sizes = {**dict.fromkeys(symbols_of(spaces), 32), "N": 5}
    assert scratch(5) == evaluate(spaces, sizes)


def test_nodes_in_bodies_say_where_they_are(run: Run, tmp_path: Path) -> None:
    then, other = (
        helper.make_graph(
            [helper.make_node(op, ["x"], [f"{op}_y"], name=f"my_{op}")],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_y", TensorProto.FLOAT, [4])],
        )
        for op in ("Exp", "Tanh")
    )
    branch = helper.make_node("If", ["c"], ["y"], name="cut", then_branch=then, else_branch=other)
    ports = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, [1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
    ]
    graph = helper.make_graph(
        [branch], "net", ports, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "if.onnx"
    )
    nodes = kernels(run, tmp_path / "if.onnx")["nodes"]
    bodies = {node["node"]: (node["body"], node["functions"]) for node in nodes}
    assert bodies["my_Exp"] == ("cut.then_branch", ["Exp"])
    assert bodies["my_Tanh"] == ("cut.else_branch", ["Tanh"])
    assert "cut.then_branch: my_Exp" in run("inspect", tmp_path / "if.onnx", "--kernels").out


def test_scratch_that_the_data_decide_is_no_number(run: Run, tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((3, 3, 1, 3), "f"), "w")
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Cast", ["at"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["found", "found", "found"], ["rows"], axis=0),
        helper.make_node("Unsqueeze", ["rows", "axes"], ["image"]),
        helper.make_node("Conv", ["image", "w"], ["y"], pads=[0, 1, 0, 1]),
    ]
    axes = numpy_helper.from_array(np.array([0, 2]), "axes")
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights, axes],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "n.onnx"
    )
    nodes_run = kernels(run, tmp_path / "n.onnx")["nodes"]
    assert None in [node["scratch"] for node in nodes_run]
    assert "by the data" in run("inspect", tmp_path / "n.onnx", "--kernels").out


def test_it_says_why_and_for_each_instruction_set(run: Run, tmp_path: Path) -> None:
    network = tmp_path / "network.onnx"
    network.write_bytes(NETWORKS["shufflenet_v2"][1]())
    (written,) = json.loads(run("inspect", network, "--kernels", "--json").out)["models"]
    assert written["simd"] == ""
    done = run("inspect", network, "--kernels", "--json", "--simd", "avx512,avx2,generic")
    sets = {found["simd"]: found["nodes"] for found in json.loads(done.out)["models"]}
    assert list(sets) == ["avx512", "avx2", "generic"]
    for number, node in enumerate(written["nodes"]):
        assert node["why"]
        assert all(one["kernel"] and one["reason"] for one in node["refused"])
        assert sets["avx512"][number]["kernel"] == node["kernel"]
        others = {name: other for other in node["elsewhere"] for name in other["sets"]}
        for name in ("avx2", "generic"):
            runs, other = sets[name][number], others.get(name, node)
            assert (runs["kernel"], runs["elsewhere"]) == (other["kernel"], [])
    assert any(node["elsewhere"] for node in written["nodes"])
    shown = run("inspect", network, "--kernels").out
    assert "not depthwise_lanes: its features are not of one channel each" in shown
    assert "with avx2 and generic" in shown


def test_instruction_sets_are_known_ones_of_kernels(run: Run) -> None:
    wrong = run("inspect", HIGGS, "--kernels", "--simd", "avx2,sse")
    assert wrong.code == 2
    assert "'sse' is none of avx512, avx2, generic" in wrong.err
    alone = run("inspect", HIGGS, "--simd", "avx2")
    assert alone.code == 1
    assert "--simd says for which instruction sets" in alone.err


def test_it_is_one_of_several_forms(run: Run) -> None:
    done = run("inspect", HIGGS, "--kernels", "--why")
    assert done.code == 1
    assert "--kernels shows kernels" in done.err
