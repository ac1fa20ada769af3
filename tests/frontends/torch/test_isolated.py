"""Files of torch in a process of their own: the same graphs, and crashes that are errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf import isolation
from sofie_rdf.cli import main
from sofie_rdf.frontends.torch import isolated as torch_isolated
from sofie_rdf.ir.graph import Graph
from sofie_rdf.isolation import forked, warm
from tests.frontends.torch import modules


class Nested(nn.Module):
    """Arguments of several kinds, numbers of several types, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("halves", torch.ones(2, dtype=torch.float16))
        self.register_buffer("nothing", torch.ones(0, 2))
        self.register_buffer("one", torch.tensor(2.5))

    def forward(self, x: Tensor, more: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        found = self.linear(x) * self.one
        if bool(found.sum() > 0):
            found = -found
        return {"y": found + self.halves, "k": torch.cat([more[0] + more[1], self.nothing])}


def assert_same_graph(found: Graph, wanted: Graph) -> None:
    assert str(found) == str(wanted)
    assert dict(found.provenance) == dict(wanted.provenance)
    assert list(found.constants) == list(wanted.constants)
    for name, array in wanted.constants.items():
        assert found.constants[name].dtype == array.dtype
        assert found.constants[name].shape == array.shape
        assert found.constants[name].tobytes() == array.tobytes()
        assert not found.constants[name].flags.writeable


def test_scripts_with_nested_arguments(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Nested().eval()).save(str(path))
    x = torch.randn(4, 3, requires_grad=True) * 2  # What no process may copy as it is.
    given = {
        "example_inputs": (x, (np.ones((4, 2), np.float32), torch.ones(4, 2))),
        "dynamic": [{0: "N"}, ({0: "K"}, {0: "K"})],
    }
    found = sofie.load(path, **given).graph
    assert_same_graph(found, sofie.load(path, isolated=False, **given).graph)
    assert {str(d) for d in found.types[found.inputs[0]].shape} == {"N", "3"}


def test_programs(tmp_path: Path) -> None:
    case = modules.mlp()
    batch = torch.export.Dim("batch")
    program = torch.export.export(case.module.eval(), (case.example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "m.pt2")
    found = sofie.load(tmp_path / "m.pt2", "other", shapes={"input": ("events", None)}).graph
    wanted = sofie.load(
        tmp_path / "m.pt2", "other", shapes={"input": ("events", None)}, isolated=False
    ).graph
    assert_same_graph(found, wanted)


def test_what_is_hostile_is_refused_there_too(tmp_path: Path) -> None:
    path = _script(tmp_path / "m.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/bytecode.pkl", b"x")
    with pytest.raises(sofie.UnsupportedFormat, match=r"bytecode\.pkl.*could run anything"):
        sofie.load(path, input_shapes=["N,7"])
    (problem,) = sofie.check(path, input_shapes=["N,7"])
    assert "bytecode.pkl" in str(problem)
    assert main(["inspect", str(path), "--input-shape", "N,7"]) == 1


FRESH = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import sofie_rdf
from sofie_rdf.cli import main
print(sofie_rdf.load("m.pt", input_shapes=["N,7"]).inputs["input"])
print(main(["inspect", "m.pt", "--input-shape", "N,7", "--json"]))
print(*sofie_rdf.check("m.pt", input_shapes=["N,8"]))
try:
    sofie_rdf.load("m.pt")
except sofie_rdf.InputError as error:
    print(error)
assert "torch" not in sys.modules and "onnxscript" not in sys.modules
"""


def _script(path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Sequential(nn.Linear(7, 2)).eval()).save(str(path))
    return path


def test_torch_is_loaded_there_alone_and_not_from_the_current_folder(tmp_path: Path) -> None:
    """The path is relative to that folder."""
    _script(tmp_path / "m.pt")
    (tmp_path / "torch.py").write_text("import os; os._exit(77)")
    command = [sys.executable, "-c", FRESH, json.dumps(sys.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stderr == ""
    loaded, *shown, code, checked, refused = done.stdout.splitlines()
    assert loaded == "float32[N, 7]"
    (model,) = json.loads("\n".join(shown))["models"]
    assert (model["name"], code) == ("m", "0")
    assert "does not run with random inputs" in checked
    assert "does not say what its inputs are" in refused


class Own:
    """A class that the other process does not know."""

    def __reduce__(self) -> Any:
        raise TypeError("no copies")


def test_arguments_that_cannot_be_sent(tmp_path: Path) -> None:
    path = _script(tmp_path / "m.pt")
    for given in (Own(), (lambda: 1,), {"input": Own()}):
        with pytest.raises(sofie.InputError, match=r"cannot be sent.*isolated=False"):
            sofie.load(path, example_inputs=given)  # type: ignore[arg-type]


def test_isolated_means_nothing_for_other_files(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"learner": {}}')
    with pytest.raises(sofie.InputError, match="isolated= means nothing"):
        sofie.load(tmp_path / "m.json", isolated=True)


@pytest.mark.parametrize("way", ["load", "check", "inspect"])
def test_a_crash_of_torch_is_an_error(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _script(tmp_path / "m.pt")
    call = isolation.call

    def crashing(function: str, *args: Any, **options: Any) -> Any:
        assert function.startswith("sofie_rdf.frontends.torch.isolated:")
        return call("os:abort", place=options["place"]) if args else None

    monkeypatch.setattr(torch_isolated.isolation, "call", crashing)
    if way == "load":
        with pytest.raises(sofie.CorruptFile, match=r"m\.pt: .*SIGABRT"):
            sofie.load(path, input_shapes=["N,7"])
    elif way == "check":
        (problem,) = sofie.check(path, input_shapes=["N,7"])
        assert "SIGABRT" in str(problem)
    else:
        assert main(["inspect", str(path), "--input-shape", "N,7"]) == 1


def test_files_that_crashed_torch() -> None:
    """Storages that are shorter than the file says; torch read behind their ends."""
    models = os.environ.get("SOFIE_RDF_MODELS", "")
    paths = sorted(Path(models).parent.glob("corpus/torch*.pt")) if models else []
    if not paths:
        pytest.skip("needs the damaged files beside SOFIE_RDF_MODELS")
    given: Mapping[str, Any] = {"input_shapes": ["N,7"]}
    for path in paths:
        for isolated in (True, False):
            with pytest.raises(sofie.CorruptFile):
                sofie.load(path, isolated=isolated, **given)


class Singular(nn.Module):
    """What ONNX has no operator for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "layer", [pytest.param(nn.Linear(3, 2), marks=pytest.mark.exhaustive), Singular()]
)
def test_check_starts_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: nn.Module
) -> None:
    """Each of them loads torch, which takes seconds; the graph comes with the answer."""
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(layer.eval(), (torch.ones(4, 3),)), path)
    asked: list[str] = []
    call = isolation.call

    def counting(function: str, *arguments: Any, **options: Any) -> Any:
        asked.append(function)
        return call(function, *arguments, **options)

    monkeypatch.setattr(torch_isolated.isolation, "call", counting)
    assert bool(sofie.check(path)) == isinstance(layer, Singular)
    assert asked == [f"{torch_isolated.__name__}:examine_there"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has copies of a process")
def test_torch_is_loaded_once_for_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who loads it never sees a file: each is read by a copy, which has all of torch already."""

    def fresh(*_: object) -> None:
        raise AssertionError("a fresh process would load torch again")

    monkeypatch.setattr(isolation, "_Process", fresh)
    parents = set()
    for size in (2, 3):
        path = tmp_path / f"m{size}.pt2"
        torch.export.save(torch.export.export(nn.Linear(3, size).eval(), (torch.ones(4, 3),)), path)
        assert sofie.load(path).name == path.stem
        parents |= {template.process.pid for template in warm._templates.values()}
    assert len(parents) == 1


def test_what_is_prepared_is_what_files_need() -> None:
    """Neither torch nor a part of it that takes long is left to the copies.

    torch would make its table of operators for each file, a fifth of the time that a file takes.
    """
    code = (
        "import sys; from sofie_rdf.frontends.torch.warmed import load; load();"
        "assert {'torch.export', 'onnxscript', 'torch.onnx', 'onnx'} <= set(sys.modules);"
        "from torch.onnx._internal.exporter._registration import ONNXRegistry as Table;"
        "one, other = Table.from_torchlib(), Table().from_torchlib();"
        "assert one.functions == other.functions and one.functions is not other.functions;"
        "name = next(iter(one.functions)); ways = one.functions[name];"
        "assert ways and ways[0] is other.functions[name][0];"
        "ways.clear(); assert other.functions[name] and Table.from_torchlib().functions[name]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


OF_HERE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
import numpy as np, torch, ROOT
import sofie_rdf
from sofie_rdf.ir.text import graph_text
from sofie_rdf.isolation import forked, warm

ROOT.EnableImplicitMT(2)
torch.set_num_threads(3)
large = torch.ones(700, 700)
assert (large @ large).sum() == 700**3
file = ROOT.TFile("events.root", "RECREATE")
tree, x = ROOT.TTree("events", ""), np.zeros(1)
tree.Branch("x", x, "x/D")
for x[0] in range(5000):
    tree.Fill()
# Threads that have computed go on for a moment, on a busy machine for longer.
for _ in range(200):
    if forked.is_possible():
        break
found = sofie_rdf.load("m.pt2").graph
assert [t.is_of_here for t in warm._templates.values()] == [True]
for x[0] in range(5000):
    tree.Fill()
tree.Write()
file.Close()
sums = ROOT.RDataFrame("events", "events.root")
assert (sums.Count().GetValue(), sums.Sum("x").GetValue()) == (10000, 4999 * 5000)
wanted = sofie_rdf.load("m.pt2", isolated=False).graph
assert graph_text(found) == graph_text(wanted)
assert all(np.array_equal(found.constants[n], a) for n, a in wanted.constants.items())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has copies of a process")
def test_a_copy_of_a_process_that_computes_and_writes(tmp_path: Path) -> None:
    """Threads of torch and of ROOT are not in the copy, and ROOT's file stays the user's."""
    module = nn.Sequential(nn.Linear(600, 700), nn.ReLU(), nn.Linear(700, 600)).eval()
    program = torch.export.export(module, (torch.ones(600, 600),))
    torch.export.save(program, tmp_path / "m.pt2")
    command = [sys.executable, "-W", "ignore", "-c", OF_HERE, json.dumps(sys.path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr


class _Mode(torch.utils._python_dispatch.TorchDispatchMode):
    pass


@pytest.mark.parametrize(
    "made",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu"),
        lambda: torch.device("meta"),
        _Mode,
    ],
)
def test_where_torch_does_what_the_user_has_set_no_copy_is_made(made: Any) -> None:
    assert torch_isolated._is_usual()
    with made():
        assert not torch_isolated._is_usual()
    assert torch_isolated._is_usual()


def test_neither_where_it_uses_a_device_or_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert not torch_isolated._is_usual()
    finally:
        torch.set_default_dtype(torch.float32)
    for device in (torch.cuda, torch.xpu):
        with monkeypatch.context() as patch:
            patch.setattr(device, "is_initialized", lambda: True)
            assert not torch_isolated._is_usual()
    if torch.set_flush_denormal(True):
        try:
            assert not forked.is_possible()
        finally:
            torch.set_flush_denormal(False)
    monkeypatch.delitem(sys.modules, "torch")
    assert not torch_isolated._is_usual()
