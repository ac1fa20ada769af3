"""Files of torch: .pt2, TorchScript, weights alone, pickles; damaged and hostile ones."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf import frontends
from sofie_rdf.cli import main
from sofie_rdf.frontends.torch import isolated as torch_isolated
from sofie_rdf.frontends.torch import pickles as torch_pickles
from tests.choice import some_of
from tests.frontends.torch import modules
from tests.frontends.torch.oracle import assert_same


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading torch anew takes seconds; `test_isolated` is about that."""
    monkeypatch.setattr(torch_isolated, "DEFAULT", frozenset())


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A module, and its .pt2 file with an open batch."""
    module, path = small(), tmp_path_factory.mktemp("files") / "small.pt2"
    batch = torch.export.Dim("batch")
    program = torch.export.export(module, (torch.ones(3, 7),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return module, path


def scripted(module: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(str(path))
    return path


def traced(module: nn.Module, example: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, example).save(str(path))
    return path


# Files that can be read ---------------------------------------------------------------------------


def test_exported_programs(exported: tuple[nn.Module, Path]) -> None:
    module, path = exported
    model = sofie.load(path)
    assert {n: str(t) for n, t in model.inputs.items()} == {"input": "float32[N, 7]"}
    assert_same(model.graph, module, torch.randn(5, 7))
    origin = model.graph.provenance
    assert origin["source"] == "small.pt2"
    assert len(origin["sha256"]) == 64
    assert "by torch.export" in origin["producer"]
    assert sofie.load(path, "other").name == "other"
    fixed = sofie.load(path, shapes={"input": (16, None)})
    assert str(fixed.inputs["input"]) == "float32[16, 7]"


def test_an_exported_program_with_fixed_sizes(tmp_path: Path) -> None:
    program = torch.export.export(small(), (torch.ones(3, 7),))
    torch.export.save(program, tmp_path / "m.pt2")
    assert str(sofie.load(tmp_path / "m.pt2").inputs["input"]) == "float32[3, 7]"


def test_scripts(tmp_path: Path) -> None:
    module = small()
    path = scripted(module, tmp_path / "m.pt")
    for options in (
        {"example_inputs": torch.ones(1, 7)},
        {"example_inputs": (np.ones((1, 7), np.float32),)},
        {"input_shapes": [("N", 7)]},
        {"input_shapes": ["N, 7"]},
        {"input_shapes": [(None, 7)]},
    ):
        model = sofie.load(path, **options)
        assert {n: str(t) for n, t in model.inputs.items()} == {"input": "float32[N, 7]"}
        assert_same(model.graph, module, torch.randn(5, 7))
    fixed = sofie.load(path, input_shapes=[(4, 7)])
    assert str(fixed.inputs["input"]) == "float32[4, 7]"
    assert "by TorchScript" in fixed.graph.provenance["producer"]


def test_traces(tmp_path: Path) -> None:
    case = modules.particlenet()
    module = case.module.eval()
    given = tuple(case.example.values())
    path = traced(module, given, tmp_path / "m.pt")
    model = sofie.load(path, input_shapes=["N,2,P", "N,4,P", "N,1,P"])
    assert [str(t) for t in model.inputs.values()] == [
        *("float32[N, 2, P]", "float32[N, 4, P]", "float32[N, 1, P]")
    ]
    more = (torch.randn(3, 2, 6), torch.randn(3, 4, 6), torch.ones(3, 1, 6))
    assert_same(model.graph, module, more)


def test_traces_that_only_the_newer_exporter_can_write(tmp_path: Path) -> None:
    """By torch's converter to an exported program; the names are those of forward."""
    case = modules.messages()
    path = traced(case.module, case.example, tmp_path / "m.pt")
    model = sofie.load(path, example_inputs=case.example, dynamic=case.dynamic)
    assert model.graph.inputs == ("x", "edge_index")
    assert_same(model.graph, case.module, (torch.randn(3, 3), torch.zeros(2, 0).long()))
    with pytest.raises(sofie.UnsupportedFormat, match=r"exporter to ONNX fails.*torch\.jit\.trace"):
        sofie.load(scripted(case.module, path), example_inputs=case.example, dynamic=case.dynamic)


def test_branches_and_loops_of_scripts(tmp_path: Path) -> None:
    path = scripted(modules.Sign(), tmp_path / "m.pt")
    graph = sofie.load(path, input_shapes=["N,2"]).graph
    assert "If" in {n.op.name for n in graph.nodes}
    for x in (torch.ones(3, 2), -torch.ones(3, 2)):
        assert_same(graph, modules.Sign(), x)


def test_integers_and_wide_floats(tmp_path: Path) -> None:
    case = modules.embedding()
    path = scripted(case.module, tmp_path / "m.pt")
    model = sofie.load(path, input_shapes=["N,6:int64", "N,6"])
    assert [str(t) for t in model.inputs.values()] == ["int64[N, 6]", "float32[N, 6]"]
    assert_same(model.graph, case.module, case.example)
    wide = small().double()
    model = sofie.load(scripted(wide, tmp_path / "w.pt"), input_shapes=["N,7"])
    assert str(model.inputs["input"]) == "float64[N, 7]"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"TorchScript file does not say what its inputs are \(input\)"),
        ({"input_shapes": ["N,8"]}, "does not run with random inputs of these shapes"),
        ({"input_shapes": ["N,7", "N"]}, "has 2 shapes; the inputs are input"),
        ({"input_shapes": []}, "has 0 shapes"),
        ({"input_shapes": "N,7"}, "input_shapes= is 'N,7'"),
        ({"input_shapes": ["N,7:floating"]}, "the element type 'floating'"),
        ({"input_shapes": [("N", -7)]}, "the size -7"),
        ({"input_shapes": ["N,7:a:b"]}, "is no shape"),
        ({"input_shapes": ["N,7"], "example_inputs": 1}, "are both given"),
        ({"example_inputs": (torch.ones(2, 7), 1)}, "do not fit forward"),
        ({"example_inputs": {"x": torch.ones(2, 7)}}, "do not fit forward"),
        ({"example_inputs": {}}, "input is missing"),
    ],
)
def test_wrong_inputs(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    path = scripted(small(), tmp_path / "m.pt")
    with pytest.raises(sofie.InputError, match=words):
        sofie.load(path, **options)


def test_options_that_a_pt2_file_does_not_need(exported: tuple[nn.Module, Path]) -> None:
    with pytest.raises(sofie.InputError, match=r"input_shapes= means nothing for a torch.export"):
        sofie.load(exported[1], input_shapes=["N,7"])


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = scripted(small(), tmp_path / "m.pt")
    assert main(["inspect", str(path), "--input-shape", "N,7"]) == 0
    assert "float32[N, 7]" in capsys.readouterr().out
    assert main(["check", str(path), "--input-shape", "N,7"]) == 0
    assert main(["check", str(path)]) == 1
    assert "Give --input-shape N,7 (a name leaves" in " ".join(capsys.readouterr().out.split())
    assert main(["convert", str(path), str(tmp_path / "m.root"), "--input-shape", "N,7"]) == 0
    assert main(["emit", str(path), "-o", str(tmp_path), "--input-shape", "N,7"]) == 0
    assert (tmp_path / "m.hxx").exists()
    with pytest.raises(SystemExit):
        main(["inspect", str(path), "--input-shape", "N,7+"])


# Weights alone, and pickles -----------------------------------------------------------------------


class Trap:
    """It leaves a file if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def _saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


WEIGHTS: list[Callable[[nn.Module], Any]] = [
    lambda m: m.state_dict(),
    lambda m: {"epoch": 3, "model": m.state_dict(), "name": "x", "lr": [0.1, None, True]},
    lambda m: {"m": m.state_dict(), "o": torch.optim.Adam(m.parameters()).state_dict()},
    lambda m: list(m.parameters()),
    lambda m: [p.to(torch.bfloat16) for p in m.parameters()],
]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("number", range(len(WEIGHTS)))
def test_weights_alone(tmp_path: Path, number: int, zipped: bool) -> None:
    value = WEIGHTS[number](small())
    path = _saved(tmp_path / "m.pt", value, _use_new_zipfile_serialization=zipped)
    with pytest.raises(sofie.UnsupportedFormat, match=r"holds weights .* torch\.export\.save"):
        sofie.load(path)
    (problem,) = sofie.check(path)
    assert "holds weights" in str(problem)


@pytest.mark.parametrize("zipped", some_of([True, False], [False]))
def test_whole_modules(tmp_path: Path, zipped: bool) -> None:
    module = small()
    path = _saved(tmp_path / "m.pt", module, _use_new_zipfile_serialization=zipped)
    words = r"a pickle of objects \(torch.nn.modules.container.Sequential"
    with pytest.raises(sofie.UnsupportedFormat, match=words) as caught:
        sofie.load(path)
    assert "weights_only=False" in str(caught.value)
    with pytest.raises(sofie.UnsupportedFormat, match=words):
        sofie.load(path, weights_only=True, example_inputs=torch.ones(2, 7))
    model = sofie.load(path, weights_only=False, example_inputs=torch.ones(2, 7))
    assert_same(model.graph, module, torch.randn(5, 7))


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_unpickled(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "mark"
    path = _saved(tmp_path / "m.pt", Trap(mark), _use_new_zipfile_serialization=zipped)
    with pytest.raises(sofie.UnsupportedFormat, match="a pickle of objects"):
        sofie.load(path)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(sofie.UnsupportedFormat, match="is a pickle, which is not opened"):
        sofie.load(tmp_path / "m.pkl")
    with pytest.raises(sofie.UnsupportedFormat, match="is a pickle, which is not opened"):
        sofie.load(tmp_path / "m.pkl", weights_only=False)
    assert not mark.exists()


def test_a_pickle_of_no_module(tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.pt", {"a": torch.ones(2)})
    with pytest.raises(sofie.UnsupportedFormat, match="holds a dict, which is no module"):
        sofie.load(path, weights_only=False, input_shapes=["N,7"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_others(tmp_path: Path, protocol: int) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    model = linear.LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(model, protocol))
    with pytest.raises(sofie.UnsupportedFormat, match=r"a scikit-learn model.*skl2onnx"):
        sofie.load(path)


@pytest.mark.parametrize("compress", [0, 1, 3, 9])
def test_files_of_joblib(tmp_path: Path, compress: int) -> None:
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    model = linear.LinearRegression().fit(np.eye(20), np.arange(20.0))
    joblib.dump(model, tmp_path / "m.joblib", compress=compress)
    words = "a compressed file" if compress else "a scikit-learn model"
    with pytest.raises(sofie.UnsupportedFormat, match=words):
        sofie.load(tmp_path / "m.joblib")


# Damage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["pt2", "script", "weights"])
def test_truncated_files(exported: tuple[nn.Module, Path], tmp_path: Path, kind: str) -> None:
    path = {
        "pt2": lambda: exported[1],
        "script": lambda: scripted(small(), tmp_path / "m.pt"),
        "weights": lambda: _saved(tmp_path / "w.pt", small().state_dict()),
    }[kind]()
    content, cut = path.read_bytes(), tmp_path / "cut"
    for size in (10, len(content) // 2, len(content) - 30):
        cut.write_bytes(content[:size])
        with pytest.raises(sofie.CorruptFile, match="damaged"):
            sofie.load(cut)


@pytest.mark.parametrize("kind", ["pt2", "script", "weights"])
def test_changed_bytes(exported: tuple[nn.Module, Path], tmp_path: Path, kind: str) -> None:
    """Weights that are not those that were saved."""
    module = small()
    path = {
        "pt2": lambda: exported[1],
        "script": lambda: scripted(module, tmp_path / "m.pt"),
        "weights": lambda: _saved(tmp_path / "w.pt", module.state_dict()),
    }[kind]()
    weights = (exported[0] if kind == "pt2" else module)[0].weight.detach().numpy().tobytes()
    content = bytearray(path.read_bytes())
    assert content.count(weights) == 1
    place = content.index(weights) + 5
    (tmp_path / "m").write_bytes(
        content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    )
    with pytest.raises(sofie.CorruptFile, match="cannot be read: Bad CRC-32"):
        sofie.load(tmp_path / "m")


def test_cut_pickles(tmp_path: Path) -> None:
    content = pickle.dumps({"a": 1, "b": [1, 2, 3]})
    (tmp_path / "m.pkl").write_bytes(content[:5])
    with pytest.raises(sofie.CorruptFile, match="damaged"):
        sofie.load(tmp_path / "m.pkl")


# What pickles and archives say --------------------------------------------------------------------


def test_names_in_pickles() -> None:
    """Every protocol names what it will look up."""
    for protocol in range(6):
        names, whole = torch_pickles.names_in(pickle.dumps([Tensor, nn.Linear, Path], protocol))
        assert whole
        assert {"torch.nn.modules.linear.Linear"} <= set(names)


def test_names_in_pickles_by_way_of_the_memo() -> None:
    """A name may be put away, and taken out under the number that it got there."""
    stacked = b"\x80\x04\x8c\x02os\x94]\x94\x8c\x06system\x94h\x00h\x02\x93."
    assert torch_pickles.names_in(stacked) == (("os.system",), True)
    numbered = b"\x80\x02X\x02\x00\x00\x00osq\x05X\x06\x00\x00\x00systemq\x07]h\x05h\x07\x93."
    assert torch_pickles.names_in(numbered) == (("os.system",), True)
    old = b"Vos\np1\nVsystem\np2\n]g1\ng2\n\x93."
    assert torch_pickles.names_in(old) == (("os.system",), True)


def test_formats_are_recognised(tmp_path: Path) -> None:
    assert frontends.owner(small()) == "torch"
    assert frontends.owner(b"") == "onnx"
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as archive:
        archive.writestr("version", "8.2")
        archive.writestr("serialized_exported_program.json", "{}")
    assert frontends.recognise(tmp_path / "old.pt2") == "pt2"
