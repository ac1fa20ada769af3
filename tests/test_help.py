"""What `help` shows, and which wrong options the runtime and mypy see."""

from __future__ import annotations

import inspect
import pydoc
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import sofie_rdf as sofie
from sofie_rdf.runtime.rdataframe.options import DEFAULTS, SCORE_DEFAULTS

PROJECT = Path(__file__).resolve().parents[1]
HIGGS = PROJECT / "data" / "higgs.onnx"
# Since 3.13 pydoc writes each argument of a long signature on a line of its own.
SPREAD = sys.version_info >= (3, 13)
X = ["x"] * 7


def lines(thing: object) -> list[str]:
    return pydoc.plain(pydoc.render_doc(thing)).splitlines()


@pytest.mark.parametrize(
    ("thing", "most"),
    [(sofie, 80), (sofie.define, 80 if SPREAD else 60), (sofie.Model, 80)],
    ids=["sofie_rdf", "define", "Model"],
)
def test_help_fits_a_screen_or_two(thing: object, most: int) -> None:
    assert len(lines(thing)) <= most


@pytest.mark.parametrize("name", ["load", "check", "trust", "SofieFunctor", "from_onnx"])
def test_help_of_each_function_fits_a_screen(name: str) -> None:
    assert len(lines(getattr(sofie, name))) <= (45 if SPREAD else 30)


def public() -> set[str]:
    names = {name for name in vars(sofie) if not name.startswith("_")}
    return {name for name in names if not isinstance(getattr(sofie, name), ModuleType)}


def test_help_of_the_package_names_all_that_it_has() -> None:
    text = sofie.__doc__ or ""
    assert [name for name in sorted(public()) if name not in text] == []


def test_importing_everything_gives_all_names() -> None:
    space: dict[str, Any] = {}
    exec("from sofie_rdf import *", space)
    assert public() <= space.keys()
    assert len(public()) > 30
    assert set(dir(sofie)) >= public()


def methods_of(cls: type) -> dict[str, Any]:
    public = {name for name in dir(cls) if name == "__call__" or not name.startswith("_")}
    found = {name: getattr(cls, name) for name in sorted(public)}
    return {name: one for name, one in found.items() if inspect.isroutine(one)}


def test_help_of_a_model_has_what_users_call() -> None:
    shown = lines(sofie.Model)
    for name in ("inputs", "outputs", "name", "weights", "labels"):
        assert f" |  {name}" in shown
    for name in ("compiled", "parcel", "__reduce__", "__deepcopy__", "__weakref__"):
        assert not any(line.split()[1:2] == [name] for line in shown)
    for name, method in methods_of(sofie.Model).items():
        promise = (method.__doc__ or "").splitlines()[0]
        assert promise.endswith(".")
        line = f" |      {name:15}{promise}"
        assert shown.count(line) == 1, name
        assert len(line) <= 100, name


def test_help_of_each_method_of_a_model_has_all_of_its_text() -> None:
    methods = methods_of(sofie.Model)
    assert {"__call__", "define", "score", "gradient", "save", "emit"} <= methods.keys()
    for method in methods.values():
        text = " ".join(" ".join(lines(method)).split())
        assert " ".join((method.__doc__ or "").split()) in text
        assert len(lines(method)) <= (45 if SPREAD else 20)
    assert "RNTuple" in "\n".join(lines(sofie.Model.save))


def test_dir_of_a_model_is_complete_but_for_machinery() -> None:
    """`help` has a list of its own; completion and `inspect.getmembers` have the methods."""
    members = dict(inspect.getmembers(sofie.Model))
    assert {"define", "save", "gradient", "inputs"} <= members.keys()
    assert not {"compiled", "parcel", "plan"} & members.keys()


def test_signatures_name_each_option_with_its_default() -> None:
    for function in (sofie.define, sofie.Model.define):
        parameters = inspect.signature(function).parameters
        assert {name: parameters[name].default for name in DEFAULTS} == dict(DEFAULTS)
    parameters = inspect.signature(sofie.Model.score).parameters
    assert {name: parameters[name].default for name in SCORE_DEFAULTS} == dict(SCORE_DEFAULTS)
    assert "isolated" in inspect.signature(sofie.load).parameters


def test_what_a_model_is_can_be_printed() -> None:
    model = sofie.load(HIGGS)
    assert repr(model.inputs) == "features: float32[N, 7]"
    assert repr(model) == "<Model higgs: features: float32[N, 7] -> score: float32[N, 1]>"
    assert "<table>" in model._repr_html_()


# Options that are wrong ---------------------------------------------------------------------------

MODEL = sofie.load(HIGGS)
GRAPH = MODEL.graph
CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "define": (lambda: sofie.define(None, "y", MODEL, X, prr="set"), "define.*prr=.*'per'"),
    "Model.define": (lambda: MODEL.define(None, "y", X, wher="x"), "define.*wher=.*'where'"),
    "score": (lambda: MODEL.score({}, X, batch=3), "score.*batch=.*It has output="),
    "gradient": (lambda: MODEL.gradient(vpj=True), "gradient.*vpj=.*'vjp'"),
    "jacobian": (lambda: MODEL.jacobian(wtr="x"), "jacobian.*wtr=.*'wrt'"),
    "load": (lambda: sofie.load(HIGGS, shape={}), "load.*shape=.*'shapes'"),
    "check": (lambda: sofie.check(HIGGS, limit=None), "check.*limit=.*'limits'"),
    "from_onnx": (lambda: sofie.from_onnx(HIGGS, compilr=""), "from_onnx.*compilr=.*'compiler'"),
    "from_torch": (lambda: sofie.from_torch(None, isolated=True), "from_torch.*isolated="),
    "trust": (lambda: sofie.trust("x", nme=""), "trust.*nme=.*'name'"),
    "emit": (lambda: MODEL.emit(standalon=True), "emit.*standalon=.*'standalone'"),
    "save": (lambda: MODEL.save("x", Via="ROOT"), "save.*Via=.*'via'"),
    "named": (lambda: MODEL.named(feature=X), "named.*feature=.*'features'"),
    "with_seed": (lambda: MODEL.with_seed(sed=1), "with_seed.*sed=.*'seed'"),
    "Model": (lambda: sofie.Model(GRAPH, compilr=""), "Model has.*compilr=.*'compiler'"),
    "functor": (lambda: sofie.SofieFunctor(MODEL, 1, typ=()), "typ=.*'types'"),
    "Limits": (lambda: sofie.Limits(byte=1), "Limits has no option byte=.*'bytes'"),
    "fit.function": (lambda: sofie.fit.function(MODEL, {}, [], outpt=""), "outpt=.*'output'"),
    "fit.roofit": (lambda: sofie.fit.roofit(MODEL, nme=""), "roofit has no option nme="),
    "operator": (lambda: sofie.operator(heder="x.hxx"), "operator.*heder=.*'header'"),
    "Call": (lambda: sofie.Call("kernel", (), output=1), "Call has.*output=.*'outputs'"),
    "Functor": (lambda: sofie.Functor("F", vectr=True), "Functor has no option vectr="),
    "too few": (lambda: sofie.load(), r"load: missing.*'path'. load\(path, name, ...\)"),
    "too many": (lambda: MODEL.save("x", "y"), r"save: too many positional.*save\(path, ...\)"),
    "twice": (lambda: MODEL.gradient("a", of="b"), "gradient: multiple values.*'of'"),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_a_wrong_option_is_our_error(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(sofie.InputError, match=message) as caught:
        call()
    assert caught.traceback[-1].path.is_relative_to(PROJECT / "sofie_rdf")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


WRONG = (5, 1.5, "zz", b"x", ["a"], {1: 2}, object(), np.zeros(2), {"x"}, float("inf"), 10**400)


@pytest.mark.parametrize("name", SCORE_DEFAULTS)
def test_an_option_of_the_wrong_kind_is_our_error(name: str) -> None:
    events = {"x": np.ones(3, np.float32)}
    for value in WRONG:
        options: Any = {name: value}
        with suppress(sofie.SofieError):
            MODEL.score(events, X, **options)


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_option_of_the_wrong_kind_is_our_error_with_a_data_frame(name: str) -> None:
    root = pytest.importorskip("ROOT")
    df = root.RDataFrame(3).Define("x", "1.f")
    for value in WRONG:
        options: Any = {name: value}
        with suppress(sofie.SofieError):
            sofie.define(df, "y", MODEL, X, **options)


USER = """
import sofie_rdf
from typing import Any

df: Any = None
model = sofie_rdf.load("x.onnx", shapes={"x": ("N", 7)}, compiler="g++")
sofie_rdf.define(df, "y", model, ["a"], per="set", where="x", batch=3, mask={"m": "x"})
model.define(df, {"y": "out"}, {"x": ["a"]}, lengths={"n": (2, None)}, pad=0)
model.score({}, ["a"], where=[True], entry=[1, 2], output={"y": "out"})
reveal_type(model.gradient())
sofie_rdf.load("x", shpaes={})
sofie_rdf.check("x", foo=1)
sofie_rdf.define(df, "y", model, ["a"], per=3)
sofie_rdf.define(df, "y", model, ["a"], prr="set")
model.define(df, "y", ["a"], prr="set")
model.define(df, "y", ["a"], pad="0")
model.score({}, ["a"], batch=1)
model.gradient(foo=1)
"""


def test_mypy_sees_wrong_options_in_a_script_of_a_user(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=PROJECT, check=False, timeout=300
    )
    found = [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line]
    wrong = USER.splitlines().index('sofie_rdf.load("x", shpaes={})') + 1
    assert found == [str(number) for number in range(wrong, len(USER.splitlines()) + 1)]
    assert 'Revealed type is "sofie_rdf.model.Model"' in done.stdout
