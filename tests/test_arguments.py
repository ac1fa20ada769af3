"""Arguments in the wrong place, or of the wrong kind: what was given is said, and what takes it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import awkward
import numpy as np
import onnx
import pytest

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError

DATA = Path(__file__).resolve().parents[1] / "data"
HIGGS = DATA / "higgs.onnx"
X = ["x"] * 7


@pytest.fixture(scope="module")
def given() -> Any:
    """Things that stand in the wrong place."""
    root, torch = pytest.importorskip("ROOT"), pytest.importorskip("torch")
    return SimpleNamespace(
        df=root.RDataFrame(3).Define("x", "1.f"),
        model=sofie.load(HIGGS),
        module=torch.nn.Linear(3, 1),
        tensor=torch.zeros(2, 3),
        bytes=HIGGS.read_bytes(),
        proto=onnx.load(str(HIGGS)),
        path=str(HIGGS),
    )


Case = tuple[str, Callable[[Any], Any], str]
ORDER = r"another order: define\(df, column, model"
LOAD = r"sofie_rdf\.load\(path\)"
TORCH = r"sofie_rdf\.from_torch\(module"
CASES: tuple[Case, ...] = (
    ("define: model first", lambda g: sofie.define(g.model, "y", g.df, X), ORDER),
    ("define: model second", lambda g: sofie.define(g.df, g.model, "y", X), ORDER),
    ("define: model last", lambda g: sofie.define(g.df, "y", X, g.model), ORDER),
    ("define: a path", lambda g: sofie.define(g.df, "y", g.path, X), LOAD),
    ("define: a module", lambda g: sofie.define(g.df, "y", g.module, X), TORCH),
    ("define: arrays", lambda g: sofie.define({"x": 1}, "y", g.model, X), r"model\.score\(events"),
    ("define: columns first", lambda g: g.model.define("y", g.df, X), "another order"),
    ("define: no column", lambda g: g.model.define(g.df, X), "column= as the name.*not a list"),
    ("define: columns", lambda g: g.model.define(g.df, "y", g.df), "columns= as a list.*RDataF"),
    ("define: a number", lambda g: g.model.define(g.df, "y", 3), "columns= as a list.*an int"),
    ("define: option", lambda g: g.model.define(g.df, "y", X, maks=""), "no option maks=.*'mask'"),
    ("define: no option", lambda g: g.model.define(g.df, "y", X, zzzz=1), "zzzz=.*It has output="),
    ("functor: order", lambda g: sofie.SofieFunctor(1, g.model), r"SofieFunctor\(model, nslots\)"),
    ("functor: a path", lambda g: sofie.SofieFunctor(g.path, 1), LOAD),
    ("load: a module", lambda g: sofie.load(g.module), f"a PyTorch Linear.*{TORCH}"),
    ("load: bytes", lambda g: sofie.load(g.bytes), r"\d+ bytes.*sofie_rdf\.from_onnx\(content\)"),
    ("load: a model", lambda g: sofie.load(g.model), "a sofie_rdf Model. It has been read already"),
    ("load: a proto", lambda g: sofie.load(g.proto), r"an ONNX ModelProto.*sofie_rdf\.from_onnx"),
    ("load: None", lambda _: sofie.load(None), "load takes the path of a file, not None"),
    ("load: a list", lambda g: sofie.load([g.path]), "not a list"),
    ("load: a class", lambda g: sofie.load(type(g.module)), r"the class Linear.*Linear\(\.\.\.\)"),
    ("load: shapes", lambda g: sofie.load(g.path, shapes=[1, 7]), "shapes= is a list; a mapping"),
    ("load: compiler", lambda g: sofie.load(g.path, compiler="icc"), "'icc' is no compiler"),
    ("from_onnx: a module", lambda g: sofie.from_onnx(g.module), TORCH),
    ("from_onnx: an array", lambda _: sofie.from_onnx(np.zeros(3)), "the class numpy.ndarray"),
    ("from_onnx: a graph", lambda g: sofie.from_onnx(g.proto.graph), r"make_model\(graph\)"),
    ("from_onnx: compiler", lambda g: sofie.from_onnx(g.bytes, compiler="icc"), "'icc'"),
    ("from_torch: a path", lambda g: sofie.from_torch(g.path), LOAD),
    ("from_torch: a class", lambda g: sofie.from_torch(type(g.module)), "class Linear"),
    ("from_torch: order", lambda g: sofie.from_torch(g.tensor, g.module), "another order"),
    ("from_torch: numbers", lambda g: sofie.from_torch(g.module.state_dict()), "state_dict has"),
    ("from_torch: shapes", lambda g: sofie.from_torch(g.module, g.tensor, shapes=3), "shapes= is"),
    ("from_torch: compiler", lambda g: sofie.from_torch(g.module, g.tensor, compiler="icc"), "icc"),
    ("from_torch: nothing", lambda g: sofie.from_torch(g.module), r"\(input\)\. Give example_inp"),
    ("from_keras: a module", lambda g: sofie.from_keras(g.module), TORCH),
    ("from_keras: bytes", lambda _: sofie.from_keras(b"abc"), "3 bytes"),
    ("from_xgboost: a module", lambda g: sofie.from_xgboost(g.module), TORCH),
    ("from_lightgbm: a model", lambda g: sofie.from_lightgbm(g.model), "read already"),
    ("from_sklearn: a path", lambda _: sofie.from_sklearn("a.pkl"), LOAD),
    ("from_sklearn: a module", lambda g: sofie.from_sklearn(g.module), TORCH),
    ("trust: a model", lambda g: sofie.trust(g.model), "trust takes the path"),
    ("score: a model", lambda g: g.model.score(g.model), "score takes events"),
    ("score: a frame", lambda g: g.model.score(g.df, X), r"not an RDataFrame.*model\.define\(df"),
    ("score: a path", lambda g: g.model.score("f.root"), r"uproot\.open"),
    ("score: nothing", lambda g: g.model.score(), "not None"),
    ("score: columns", lambda g: g.model.score({"x": np.zeros(2)}, g.model), "columns= as a list"),
    ("call: a frame", lambda g: g.model(g.df), r"is an RDataFrame; an array of float32\[N, 7\]"),
    ("call: a path", lambda g: g.model("m.onnx"), "is the text 'm.onnx'; an array"),
    ("call: None", lambda g: g.model(None), "is None; an array"),
    ("save: None", lambda g: g.model.save(None), "save takes the path of a file, not None"),
    ("emit: a model", lambda g: g.model.emit(g.model), "emit takes the path of a folder"),
    ("Model: a path", lambda g: sofie.Model(g.path), LOAD),
)


@pytest.mark.parametrize(("call", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_wrong_argument(given: Any, call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(SofieError, match=message) as caught:
        call(given)
    assert isinstance(caught.value, (sofie.InputError, sofie.JitError))


def test_a_wrong_option_of_the_method_of_data_frames(given: Any) -> None:
    from sofie_rdf.pythonization import DefineModel

    with pytest.raises(sofie.InputError, match=r"DefineModel has no option dafault=.*'default'"):
        DefineModel(given.df, "y", given.model, X, dafault=0)


def test_check_says_it_as_well(given: Any) -> None:
    for wrong in (given.model, None, 3):
        (problem,) = sofie.check(wrong)
        assert "check takes the path of an ONNX file" in str(problem)


def test_a_file_of_another_kind_is_refused_whatever_is_in_the_cache() -> None:
    sofie.load(HIGGS)(np.zeros((1, 7), np.float32))
    for way in (sofie.from_keras, sofie.from_xgboost, sofie.from_lightgbm):
        with pytest.raises(SofieError):
            way(HIGGS)
    with pytest.raises(sofie.InputError, match=r"is a \.keras file, which from_onnx.*load\(path\)"):
        sofie.from_onnx(DATA / "higgs.keras")


def test_what_is_right_goes_through(given: Any) -> None:
    x = np.zeros((2, 7), np.float32)
    expected = given.model(x)
    assert np.array_equal(sofie.from_onnx(bytearray(given.bytes))(x), expected)
    assert np.array_equal(given.model([[0.0] * 7] * 2), expected)
    names = [f"f{i}" for i in range(7)]
    records = awkward.zip({name: [0.0, 0.0] for name in names})
    assert np.array_equal(np.ravel(given.model.score(records, names)), np.ravel(expected))
    frame = given.df.Filter("x > 0")
    assert "y" in list(given.model.define(frame, "y", tuple(X)).GetColumnNames())


WITHOUT = """
import sys
sys.modules["ROOT"] = None
import numpy as np, sofie_rdf
sofie_rdf.load({path!r}, compiler={compiler!r})(np.zeros((1, 7), np.float32))
"""


@pytest.mark.parametrize("compiler", ["", "auto", "cling"])
def test_without_root_and_compiler_both_are_named(tmp_path: Path, compiler: str) -> None:
    environment = {"PATH": "", "SOFIE_RDF_CACHE": "off", "PYTHONPATH": ":".join(sys.path)}
    text = WITHOUT.format(path=str(HIGGS), compiler=compiler)
    command = [sys.executable, "-c", text]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.stderr.splitlines()[-1].startswith("sofie_rdf.errors.MissingDependency: ")
    assert "g++" in done.stderr.splitlines()[-1]
    assert "pip install root" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["a\ud800", "a\0b"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    """Half of a surrogate pair, and a byte 0."""
    model, path = sofie.load(HIGGS), tmp_path / name
    ways = [lambda: model.save(path), lambda: model.emit(path), lambda: model.normalized(path)]
    for way in [*ways, lambda: sofie.load(path), lambda: sofie.trust(path)]:
        with pytest.raises(sofie.SofieError):
            way()
    assert len(sofie.check(path)) == 1
    assert list(tmp_path.iterdir()) == []
