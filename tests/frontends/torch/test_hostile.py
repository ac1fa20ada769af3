"""Files of torch by strangers: whatever they say, nothing runs in load, check and inspect."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf import limits
from sofie_rdf.cli import main
from sofie_rdf.frontends.torch import archive as torch_archive
from sofie_rdf.frontends.torch import files as torch_files
from sofie_rdf.frontends.torch import isolated as torch_isolated
from sofie_rdf.frontends.torch import script_archive as torch_script_archive
from sofie_rdf.frontends.torch.code import checked
from sofie_rdf.frontends.torch.schema import Wrong, expression, tree

Change = Callable[[dict[str, bytes], "Traps"], dict[str, bytes]]


class Traps:
    """Texts that leave a file, or change one, wherever they are run."""

    def __init__(self, folder: Path) -> None:
        self.mark, self.victim = folder / "mark", folder / "victim"
        self.victim.write_bytes(bytes(range(16)))
        self.expression = f"__import__('pathlib').Path('{self.mark}').touch()"

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)

    @property
    def pickle(self) -> bytes:
        return pickle.dumps(self, 2)

    @property
    def saved(self) -> bytes:
        """What torch.save makes of it."""
        buffer = io.BytesIO()
        torch.save(self, buffer)
        return buffer.getvalue()

    def assert_nothing_happened(self) -> None:
        assert not self.mark.exists()
        assert self.victim.read_bytes() == bytes(range(16))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing else would hold it back: what is hostile is refused before torch sees it."""
    monkeypatch.setattr(torch_isolated, "DEFAULT", frozenset())


@pytest.fixture
def traps(tmp_path: Path) -> Traps:
    return Traps(tmp_path)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "m.pt2"
    batch = torch.export.Dim("batch")
    module = nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    made = torch.export.export(module, (torch.ones(3, 7),), dynamic_shapes=({0: batch},))
    torch.export.save(made, path)
    return path


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "m.pt"
    # In a process of its own: torch numbers the classes of all scripts that a process has made.
    code = (
        "import sys, torch\n"
        "network = torch.nn.Sequential(torch.nn.Linear(7, 8), torch.nn.ReLU()).eval()\n"
        "torch.jit.script(network).save(sys.argv[1])\n"
    )
    run = [sys.executable, "-W", "ignore", "-c", code, str(path)]
    subprocess.run(run, check=True, timeout=300)
    return path


def contents(path: Path) -> dict[str, bytes]:
    """The members of an archive, without its folder."""
    with zipfile.ZipFile(path) as archive:
        return {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}


def archive_of(members: dict[str, bytes], path: Path, root: str = "m/", **options: Any) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", **options) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(root + name, content)
    return path


def refused(path: Path, traps: Traps, *options: str) -> str:
    """What each way of looking at the file says; it must be an error of ours, and nothing else."""
    given = {"input_shapes": ["N,7"]} if path.suffix == ".pt" else {}
    with pytest.raises((sofie.UnsupportedFormat, sofie.CorruptFile)) as caught:
        sofie.load(path, **given)
    assert sofie.check(path, **given)
    shapes = ["--input-shape", "N,7"] if given else []
    assert main(["inspect", str(path), *shapes, *options]) == 1
    traps.assert_nothing_happened()
    return str(caught.value)


# Exported programs --------------------------------------------------------------------------------


def _edited(members: dict[str, bytes], change: Callable[[Any], None]) -> bytes:
    value = json.loads(members["models/model.json"])
    change(value)
    return json.dumps(value).encode()


def _with_expression(members: dict[str, bytes], traps: Traps) -> bytes:
    """The program, with a size that leaves a mark."""

    def change(value: Any) -> None:
        tensors = value["graph_module"]["graph"]["tensor_values"]
        size = {"as_expr": {"expr_str": traps.expression, "hint": None}}
        next(iter(tensors.values()))["sizes"][0] = size

    return _edited(members, change)


def _cut_name(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    """torch takes the name of the program without its last five letters, whatever they are."""
    hostile = _with_expression(members, traps)
    del members["models/model.json"]
    return {**members, "models/model.jsom": hostile}


def _second_program(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    more = {
        "models/other.json": _with_expression(members, traps),
        "data/sample_inputs/other.pt": members["data/sample_inputs/model.pt"],
    }
    return {**members, **more}


def _library(members: dict[str, bytes], _: Traps) -> dict[str, bytes]:
    return {**members, "data/aotinductor/model/m.so": b"\x7fELF"}


def _pickle_before_zip(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    examples = traps.pickle + members["data/sample_inputs/model.pt"]
    return {**members, "data/sample_inputs/model.pt": examples}


def _saved_examples(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    return {**members, "data/sample_inputs/model.pt": traps.saved}


def _plain_pickle(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    return {**members, "data/sample_inputs/model.pt": traps.pickle}


def _capitals_inside(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    buffer = io.BytesIO()
    inner = members["data/sample_inputs/model.pt"]
    with zipfile.ZipFile(io.BytesIO(inner)) as old, zipfile.ZipFile(buffer, "w") as new:
        new.writestr("archive/DATA.PKL", traps.pickle)
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return {**members, "data/sample_inputs/model.pt": buffer.getvalue()}


def _capitals(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    return {"data/sample_inputs/MODEL.PT": traps.saved, **members}


def _legacy_weights(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    return {**members, "data/weights/model.pt": traps.saved}


def _legacy_constants(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    return {**members, "data/constants/model.pt": traps.pickle}


def _object(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    return {**members, "data/constants/custom_obj_0": traps.pickle}


def _opaque(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    name = "data/constants/model_constants_config.json"
    row = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = json.dumps({"config": {"x": row}}).encode()
    return {**members, name: config, "data/constants/opaque_obj_0": traps.pickle}


def _pickled_weight(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    name = "data/weights/model_weights_config.json"
    config = members[name].replace(b'"use_pickle": false', b'"use_pickle": true')
    return {**members, name: config, "data/weights/weight_0": traps.saved}


def _executorch(members: dict[str, bytes], _: Traps) -> dict[str, bytes]:
    return {**members, "executorch/model.pte": b"x"}


def _way_out(members: dict[str, bytes], _: Traps) -> dict[str, bytes]:
    return {**members, "data/weights/../../../x": b"x"}


def _as_tree(node: Any) -> Change:
    def change(members: dict[str, bytes], _: Traps) -> dict[str, bytes]:
        def edit(value: Any) -> None:
            signature = value["graph_module"]["module_call_graph"][0]["signature"]
            signature["out_spec"] = json.dumps([1, node])

        return {**members, "models/model.json": _edited(members, edit)}

    return change


def _leaf() -> Any:
    return {"type": None, "context": None, "children_spec": []}


_FACTORY = {
    "default_factory_module": "antigravity",
    "default_factory_name": "x",
    "dict_context": ["a"],
}
_ENUM = json.dumps([{"__enum__": True, "fqn": "antigravity:X", "name": "Y"}])


def _as_target(text: str) -> Change:
    def change(members: dict[str, bytes], _: Traps) -> dict[str, bytes]:
        def edit(value: Any) -> None:
            value["graph_module"]["graph"]["nodes"][0]["target"] = text

        return {**members, "models/model.json": _edited(members, edit)}

    return change


def _as_code(path: tuple[Any, ...], text: str = "x=exit()") -> Change:
    """A name that becomes a part of Python code."""

    def change(members: dict[str, bytes], _: Traps) -> dict[str, bytes]:
        def edit(value: Any) -> None:
            place = value["graph_module"]
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = text

        return {**members, "models/model.json": _edited(members, edit)}

    return change


_CALL = ("module_call_graph", 0, "signature")
PROGRAMS: dict[str, Change] = {
    "a name that torch cuts": _cut_name,
    "a second program": _second_program,
    "a library": _library,
    "a pickle before a zip archive": _pickle_before_zip,
    "examples that are a pickle": _plain_pickle,
    "examples that are an object": _saved_examples,
    "capitals inside": _capitals_inside,
    "capitals": _capitals,
    "weights of the older form": _legacy_weights,
    "constants of the older form": _legacy_constants,
    "an object of C++": _object,
    "an opaque object": _opaque,
    "a weight that is a pickle": _pickled_weight,
    "executorch": _executorch,
    "a way out": _way_out,
    "an expression": lambda m, t: {**m, "models/model.json": _with_expression(m, t)},
    "a factory": _as_tree(
        {"type": "collections.defaultdict", "context": _FACTORY, "children_spec": [_leaf()]}
    ),
    "an enum": _as_tree({"type": "builtins.dict", "context": _ENUM, "children_spec": [_leaf()]}),
    "from_file": _as_target("torch.ops.aten.from_file.default"),
    "load_library": _as_target("torch.ops.load_library"),
    "a chain": _as_target("torch.ops.aten.add.__class__"),
    "os.system": _as_target("torch.serialization.os.system"),
    "attrgetter": _as_target("_operator.attrgetter"),
    "methodcaller": _as_target("_operator.methodcaller"),
    "an extension": _as_target("#x:y"),
    "inductor": _as_target("torch.ops.inductor._alloc_from_pool.default"),
    "a call of an operator that has an effect": _as_target("torch.ops.profiler._record_x.default"),
    "a placeholder": _as_code(("graph", "inputs", 0, "as_tensor", "name")),
    "a node": _as_code(("graph", "nodes", 0, "name")),
    "an argument": _as_code(("graph", "nodes", 0, "inputs", 0, "name")),
    "a parameter of forward": _as_code((*_CALL, "forward_arg_names"), ["x=exit()"]),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("attack", PROGRAMS)
def test_hostile_programs(attack: str, program: Path, traps: Traps, tmp_path: Path) -> None:
    members = PROGRAMS[attack](contents(program), traps)
    refused(archive_of(members, tmp_path / "x.pt2"), traps)


def test_a_folder_called_data(program: Path, traps: Traps, tmp_path: Path) -> None:
    """The program was taken for a table of weights."""
    members = contents(program)
    members["models/model.json"] = _with_expression(members, traps)
    said = refused(archive_of(members, tmp_path / "x.pt2", "data/"), traps)
    assert "expr_str" in said


def test_texts_that_torch_would_look_up_are_left_out(
    program: Path, traps: Traps, tmp_path: Path
) -> None:
    """Guards are Python, and notes of nodes have dotted names."""
    members = contents(program)

    def edit(value: Any) -> None:
        value["guards_code"] = [traps.expression]
        for node in value["graph_module"]["graph"]["nodes"]:
            node["metadata"]["source_fn_stack"] = "x,torch.serialization.os.system"
            node["metadata"]["from_node"] = json.dumps([{"graph_id": traps.expression}])
        value["graph_module"]["metadata"] = {"custom": "{}"}

    members["models/model.json"] = _edited(members, edit)
    members["extra/x.py"] = traps.expression.encode()
    path = archive_of(members, tmp_path / "x.pt2")
    made = torch_archive.read(path)
    assert str(traps.mark) not in str(made.members)
    assert b"os.system" not in made.members["models/model.json"]
    assert sofie.load(path).name == "x"
    traps.assert_nothing_happened()


def test_torch_gets_what_we_have_written(program: Path) -> None:
    """The archive for torch is the same, whatever stands around the members."""
    made = torch_archive.read(program)
    assert set(made.members) | set(made.pickles) <= set(contents(program))
    name = "data/weights/weight_0"
    assert made.members[name] == contents(program)[name]


def _with_attribute(path: Path) -> bytes:
    """The directory attribute of the first member, a bit of the central directory."""
    with zipfile.ZipFile(path) as archive:
        place = archive.start_dir + 38
    content = path.read_bytes()
    return content[:place] + bytes([content[place] | 0x10]) + content[place + 1 :]


def test_a_flipped_bit_changes_no_weight(program: Path, tmp_path: Path) -> None:
    """torch reads nothing of a member that is called a folder: its memory has any numbers."""
    (tmp_path / "x.pt2").write_bytes(_with_attribute(program))
    found = sofie.load(tmp_path / "x.pt2").graph.constants
    wanted = sofie.load(program).graph.constants
    assert {n: a.tobytes() for n, a in found.items()} == {n: a.tobytes() for n, a in wanted.items()}


def test_weights_are_compared_with_the_file(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = torch.export.load

    def wrong(*args: Any) -> Any:
        found = load(*args)
        next(iter(found.state_dict.values())).data[0] += 1
        return found

    monkeypatch.setattr(torch.export, "load", wrong)
    with pytest.raises(sofie.CorruptFile, match="torch does not read as it was written"):
        torch_files.opened(program, None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sizes", [{"as_int": 9}, {"as_int": 7}]),
        ("sizes", [{"as_int": 2**47}, {"as_int": 7}]),
        ("sizes", [{"as_int": -1}, {"as_int": 7}]),
        ("sizes", [{"as_int": 8}]),
        ("strides", [{"as_int": 8}, {"as_int": 1}]),
        ("storage_offset", {"as_int": 1}),
        ("storage_offset", {"as_int": 2**63}),
        ("dtype", 8),
        ("dtype", 0),
        ("layout", 1),
        ("sizes", [{"as_expr": {"expr_str": "s0"}}, {"as_int": 7}]),
    ],
)
def test_weights_that_are_not_there(
    program: Path, traps: Traps, tmp_path: Path, key: str, value: Any
) -> None:
    members = contents(program)
    name = "data/weights/model_weights_config.json"
    config = json.loads(members[name])
    next(iter(config["config"].values()))["tensor_meta"][key] = value
    members[name] = json.dumps(config).encode()
    refused(archive_of(members, tmp_path / "x.pt2"), traps)


def test_a_weight_of_no_bytes(program: Path, traps: Traps, tmp_path: Path) -> None:
    """torch makes zeros of it, as many as the file says."""
    members = {**contents(program), "data/weights/weight_0": b""}
    refused(archive_of(members, tmp_path / "x.pt2"), traps)


def test_one_member_as_two_types(program: Path, traps: Traps, tmp_path: Path) -> None:
    """torch would read the second weight as numbers of the first one's type."""
    members = contents(program)
    name = "data/weights/model_weights_config.json"
    config = json.loads(members[name])
    first, second, *_ = config["config"].values()
    second["path_name"] = first["path_name"]
    second["tensor_meta"]["dtype"] = 4
    members[name] = json.dumps(config).encode()
    refused(archive_of(members, tmp_path / "x.pt2"), traps)


@pytest.mark.parametrize("order", [b"big", b"", b"x" * 1000])
def test_numbers_of_other_machines(
    program: Path, script: Path, traps: Traps, tmp_path: Path, order: bytes
) -> None:
    for path in (program, script):
        members = {**contents(path), "byteorder": order}
        said = refused(archive_of(members, tmp_path / f"x{path.suffix}"), traps)
        assert "little-endian" in said


@pytest.mark.parametrize(
    "text",
    [
        "exec('1')",
        "s0.__class__",
        "[x for x in (1,)]",
        "lambda: 1",
        "Symbol('s0 if exit() else 1')",
        "Symbol",
        "9**9**9",
        "Pow(9, 99999999999)",
        "LShift(Integer(1), Integer(99999999999))",
        "1 << 99999999999",
        "2**(s0 + 99999999999)",
        "(" * 10_000,
        "-" * 10_000 + "1",
        "s0" + "+1" * 50_000,
        "Symbol('s0', positive=exit())",
        "Max(*s0)",
        "Symbol('s0', **{})",
        "s0 if s0 else 1",
        "f'{s0}'",
        "1j",
        "",
        "\x00",
    ],
)
def test_expressions_that_are_no_sizes(text: str) -> None:
    with pytest.raises(Wrong):
        expression(text)
    with pytest.raises(Wrong):
        expression(5)


def test_expressions_of_sizes() -> None:
    for text in (
        "Symbol('s77', positive=True, integer=True)",
        "Add(Mul(Integer(2), Symbol('s0', integer=True)), Integer(-1))",
        "Pow(Symbol('s0'), Integer(2))",
        "Max(1, s0//2 + u0)",
        "Eq(s0, 3) & (s1 > 2)",
        "Float('0.5', precision=53)",
        "FloorDiv(s0, 2) * 3 - 1",
        "int_oo",
    ):
        assert expression(expression(text)) == expression(text)


def test_keywords_of_forward_are_names() -> None:
    leaf = _leaf()
    kwargs = {"type": "builtins.dict", "context": '["x=exit()"]', "children_spec": [leaf]}
    args = {"type": "builtins.tuple", "context": "null", "children_spec": []}
    top = {"type": "builtins.tuple", "context": "null", "children_spec": [args, kwargs]}
    with pytest.raises(Wrong):
        tree(json.dumps([1, top]))
    kwargs["context"] = '["x"]'
    assert json.loads(tree(json.dumps([1, top]))) == [1, top]


# TorchScript --------------------------------------------------------------------------------------


def _code_of(members: dict[str, bytes]) -> str:
    (name,) = (n for n in members if n.endswith("linear.py"))
    return name


def _in_forward(statement: str) -> Change:
    """A statement at the beginning of a layer's forward."""

    def change(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
        name = _code_of(members)
        text = members[name].decode()
        head = "    weight = self.weight\n"
        assert head in text
        more = statement.replace("VICTIM", str(traps.victim)).replace("MARK", str(traps.mark))
        lines = "".join(f"    {line}\n" for line in more.split("\n"))
        return {**members, name: text.replace(head, lines + head).encode()}

    return change


_OVERWRITE = "f = torch.from_file('VICTIM', True, 4, dtype=6)\ng = torch.copy_(f, torch.ones([4]))"


def _setstate(members: dict[str, bytes], traps: Traps) -> dict[str, bytes]:
    name = _code_of(members)
    more = (
        f"  def __setstate__(self: {'__torch__.torch.nn.modules.linear.Linear'},\n"
        "    state: Tensor) -> NoneType:\n"
        f"    f = torch.from_file('{traps.victim}', True, 4, dtype=6)\n"
        "    g = torch.zero_(f)\n"
        "    return None\n"
    )
    return {**members, name: members[name] + more.encode()}


SCRIPTS: dict[str, Change] = {
    "from_file": _in_forward(_OVERWRITE),
    "from_file by its long name": _in_forward(_OVERWRITE.replace("torch.from", "ops.aten.from")),
    "from_file as a method": _in_forward(
        "f = ('VICTIM').from_file(True, 4, dtype=6)\ng = torch.zero_(f)"
    ),
    "from_file by getattr": _in_forward("f = getattr('VICTIM', 'from_file')(True, 4)"),
    "from_file as a variable": _in_forward("f = torch.from_file\ng = f('VICTIM', True, 4)"),
    "save": _in_forward("f = torch.save(input, 'MARK')"),
    "save of a value": _in_forward("f = (input).save('MARK')"),
    "print": _in_forward("print('x')"),
    "a loaded library": _in_forward("f = ops.load_library('MARK')"),
    "another operator": _in_forward("f = ops.profiler._record_function_enter('x')"),
    "inductor": _in_forward("f = ops.inductor._alloc_from_pool(input, 0, 6, [1], [1])"),
    "memory behind a tensor": _in_forward("f = torch._reshape_alias(input, [9999], [1])"),
    "a storage": _in_forward("f = torch.set_(input, input)"),
    "rpc": _in_forward("f = ops.prim.rpc_sync('x', 'y')"),
    "a class of C++": _in_forward("f = __torch__.torch.classes.x.Y('MARK')"),
    "a with statement": _in_forward("with input:\n  pass"),
    "a lambda": _in_forward("f = lambda: 1"),
    "a list comprehension": _in_forward("f = [a for a in [1]]"),
    "an import": _in_forward("import os"),
    "a text of several parts": _in_forward("f = f'{input}'"),
    "a global": _in_forward("global f"),
    "an unknown function": _in_forward("f = fork(torch.add, input, input)"),
    "a dunder": _in_forward("f = (input).__class__"),
    "__setstate__": _setstate,
    "bytecode": lambda m, t: {**m, "bytecode.pkl": t.pickle},
    "an unknown member": lambda m, t: {**m, "attributes.pkl": t.pickle},
    "data that is a pickle": lambda m, t: {**m, "data.pkl": t.pickle},
    "constants that are a pickle": lambda m, t: {**m, "constants.pkl": t.pickle},
    "capitals": lambda m, t: {"DATA.PKL": t.pickle, **m},
    "code elsewhere": lambda m, _: {**m, "code/os.py": b"x = 1"},
    "letters that are not ASCII": _in_forward("f = 'ä'"),
}


@pytest.mark.parametrize("attack", SCRIPTS)
def test_hostile_scripts(attack: str, script: Path, traps: Traps, tmp_path: Path) -> None:
    members = SCRIPTS[attack](contents(script), traps)
    refused(archive_of(members, tmp_path / "x.pt"), traps)


def test_notes_of_scripts_are_left_out(script: Path, traps: Traps, tmp_path: Path) -> None:
    members = contents(script)
    for name in list(members):
        if name.endswith(".debug_pkl"):
            members[name] = traps.pickle
    members |= {"extra/x": traps.pickle, "traced_inputs.pkl": traps.pickle}
    path = archive_of(members, tmp_path / "x.pt")
    assert sofie.load(path, input_shapes=["N,7"]).name == "x"
    assert not any("debug" in n or "extra" in n for n in torch_script_archive.read(path).members)
    traps.assert_nothing_happened()


def test_texts_of_scripts_arrive_as_they_are(tmp_path: Path) -> None:
    class Says(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"Größe ≤ 3 'x' \"y\" \\ \n \t \x01 \x7f": x}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Says()).save(str(tmp_path / "m.pt"))
    module, _ = torch_files.opened(tmp_path / "m.pt", None)
    assert list(module(torch.ones(1))) == list(Says()(torch.ones(1)))


def test_comments_do_not_reach_torch() -> None:
    """Parsers may differ in where one ends."""
    code = b"def f(a: int) -> int:\n  b = '#' # ' + torch.from_file('x')\n  return a  # type: x\n"
    (found,) = checked({"code/__torch__.py": code}, "m").values()
    assert found == b'def f(a: int) -> int:\n    b = "#"\n    return a\n'


def test_code_that_is_deep_or_long() -> None:
    for text in ("x = " + "(" * 3000, "x = " + "-" * 5000 + "1", "x = a" + ".b" * 5000):
        with pytest.raises((sofie.CorruptFile, sofie.UnsupportedFormat)):
            checked({"code/__torch__.py": f"def f(a: int) -> int:\n  {text}\n".encode()}, "m")


# Archives -----------------------------------------------------------------------------------------


def test_bombs(program: Path, script: Path, tmp_path: Path) -> None:
    """A member that is small until it is unpacked."""
    for path, name in ((program, "data/weights/weight_0"), (script, "data/0")):
        members = {**contents(path), name: bytes(2**28)}
        packed = archive_of(members, tmp_path / f"x{path.suffix}", compression=zipfile.ZIP_DEFLATED)
        assert packed.stat().st_size < 2**20
        with limits.budget("bytes=64M"), pytest.raises(sofie.LimitExceeded, match="unpacked"):
            torch_archive.read(packed) if path is program else torch_script_archive.read(packed)


def _with_pickle(script: Path, steps: bytes, path: Path) -> Path:
    return archive_of({**contents(script), "data.pkl": b"\x80\x02" + steps}, path)


# The last tuple is (it, it), again and again: 2^60 numbers, for who looks at each.
_DOUBLED = b"K\1q\1" + b"h\1\x86q\1" * 60


@pytest.mark.parametrize(
    ("steps", "match"),
    [
        (b"}" + _DOUBLED + b"K\1s.", "neither number nor text"),
        (
            b"ccollections\nOrderedDict\n]" + _DOUBLED + b"K\1\x86a\x85R.",
            "neither number nor text",
        ),
        (
            b"](" + b"K\1" * 50_000 + b"eq\1" + b"ctorch\nSize\nh\1\x85R" * 5000 + b".",
            "numbers of a size",
        ),
        (
            b"]("
            + b"K\1K\1\x86" * 20_000
            + b"eq\1"
            + b"ccollections\nOrderedDict\nh\1\x85R" * 5000
            + b".",
            "a dict in a pickle",
        ),
    ],
    ids=["dict", "ordered", "sizes", "dicts"],
)
def test_pickles_that_take_for_ever(script: Path, tmp_path: Path, steps: bytes, match: str) -> None:
    """Few bytes, of which numbers come by the power or by the square of their count."""
    hostile = _with_pickle(script, steps, tmp_path / "m.pt")
    with limits.budget("bytes=16M,seconds=30"), pytest.raises(sofie.SofieError, match=match):
        torch_script_archive.read(hostile)


def test_objects_in_objects(script: Path, traps: Traps, tmp_path: Path) -> None:
    steps = b"c__torch__\nA\n)\x81}X\1\0\0\0a" * 3000 + b"N" + b"sb" * 3000 + b"."
    assert "nested too deeply" in refused(_with_pickle(script, steps, tmp_path / "m.pt"), traps)


def _doubled(members: dict[str, bytes], path: Path) -> Path:
    """Each member twice; which one counts is for each reader to say."""
    archive_of(members, path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr(archive.namelist()[0], b"other")
    return path


def test_archives_that_readers_understand_otherwise(
    program: Path, script: Path, traps: Traps, tmp_path: Path
) -> None:
    for path in (program, script):
        out = tmp_path / f"x{path.suffix}"
        assert "twice" in refused(_doubled(contents(path), out), traps)
        content = path.read_bytes()
        # The name in the header of a member is another one than that in the directory.
        name = b"byteorder"
        place = content.index(name)
        out.write_bytes(content[:place] + b"byteordfr" + content[place + len(name) :])
        refused(out, traps)
        out.write_bytes(content[:-22] + content[-22:-2] + struct.pack("<H", 5) + b"hello")
        assert sofie.load(out, **({} if out.suffix == ".pt2" else {"input_shapes": ["N,7"]}))


@pytest.mark.parametrize("kind", ["pt2", "pt"])
def test_damaged_archives_are_errors_of_ours(
    kind: str, program: Path, script: Path, tmp_path: Path
) -> None:
    """Changed, cut and repeated bytes, in the archive and in what is in it."""
    path = program if kind == "pt2" else script
    reading = torch_archive.read if kind == "pt2" else torch_script_archive.read
    out, made = tmp_path / f"x.{kind}", random.Random(1)
    for content in _mutants(path.read_bytes(), made, 150):
        out.write_bytes(content)
        with suppress(sofie.SofieError):
            reading(out)
    members = contents(path)
    for _ in range(300):
        name = made.choice(sorted(members))
        (content,) = _mutants(members[name], made, 1)
        archive_of({**members, name: content}, out)
        with suppress(sofie.SofieError):
            reading(out)


def test_any_damaged_archive_is_recognised_as_one(script: Path, tmp_path: Path) -> None:
    """A version that nobody reads, and names that are no texts."""
    content = script.read_bytes()
    with zipfile.ZipFile(script) as archive:
        place = archive.start_dir
    for at, to in ((place + 6, b"\xff\x00"), (place + 46, b"\xff\xfe"), (place + 30, b"\xff\xff")):
        changed = content[:at] + to + content[at + 2 :]
        (tmp_path / "x.pt").write_bytes(changed)
        with pytest.raises(sofie.SofieError):
            sofie.load(tmp_path / "x.pt", input_shapes=["N,7"])


def _mutants(content: bytes, made: random.Random, count: int) -> Iterator[bytes]:
    for _ in range(count):
        changed = bytearray(content)
        for _ in range(made.choice((1, 1, 2, 8))):
            place = made.randrange(len(changed) + 1)
            match made.randrange(4):
                case 0 if place < len(changed):
                    changed[place] ^= 1 << made.randrange(8)
                case 1:
                    del changed[place : place + made.randrange(1, 9)]
                case 2:
                    changed[place:place] = changed[place // 2 : place // 2 + made.randrange(1, 9)]
                case _:
                    changed[place : place + 2] = made.choice((b"\xff\xff", b"\0\0", b"[[", b"9e"))
        yield bytes(changed)


def test_pickles_are_never_followed_by_their_names(traps: Traps, tmp_path: Path) -> None:
    """Names by way of the memo, the stack, copies and pickles in pickles."""
    name = b"cbuiltins\nexec\n"
    stacked = b"\x80\x04\x8c\x08builtins\x94\x8c\x04exec\x94h\x00h\x01\x93\x8c\x01x\x85R."
    for content in (
        b"\x80\x02" + name + b"X\x01\x00\x00\x00x\x85R.",
        b"\x80\x02" + name + b"q\x000h\x00X\x01\x00\x00\x00x\x85R.",
        stacked,
        b"\x80\x02(X\x01\x00\x00\x00xibuiltins\nexec\n.",
        b"\x80\x02(" + name + b"X\x01\x00\x00\x00xo.",
        b"\x80\x02}X\x01\x00\x00\x00aK\x01s.",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" + b"\x85" * 100_000 + b".",
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", content)
        with suppress(sofie.SofieError):
            torch_archive.read_objects(buffer.getvalue(), "m")
        (tmp_path / "x.pt").write_bytes(buffer.getvalue())
        with pytest.raises(sofie.SofieError):
            sofie.load(tmp_path / "x.pt")
    traps.assert_nothing_happened()
