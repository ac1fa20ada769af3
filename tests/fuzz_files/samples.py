"""Sound files of each kind, small ones, as bytes: what is damaged."""

from __future__ import annotations

import io
import json
import pickle
import struct
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz_files.archives import packed

__all__ = ["DATA"]

DATA = Path(__file__).resolve().parents[2] / "data"


# ONNX ---------------------------------------------------------------------------------------------


@cache
def onnx_models() -> list[bytes]:
    """A model of each operator, some with all that ONNX has, and real ones."""
    from tests.fuzz_files.onnx_samples import models

    real = [(DATA / f"{n}.onnx").read_bytes() for n in ("higgs_autoencoder", "jet_energy")]
    return [*models(), *real, *real, *real]


@cache
def onnx_domains() -> list[bytes]:
    """Models with operators that are not ONNX's own: onnxruntime's and QONNX's."""
    from _pytest.outcomes import Skipped

    from tests.frontends import test_qonnx

    made = [
        test_qonnx.proto(
            "Quant",
            {"scale": 0.25, "zero": 1.0, "bits": 4.0},
            signed=1,
            narrow=0,
            rounding_mode="ROUND",
        ),
        test_qonnx.proto("BipolarQuant", {"scale": [0.25, 0.5, 2.0]}),
        test_qonnx.proto(
            "Trunc",
            {"scale": 0.25, "zero": 0.0, "bits": 8.0, "scale_2": 1.0, "zero_2": 0.0, "bits_2": 4.0},
            signed=1,
            narrow=0,
            rounding_mode="FLOOR",
        ),
    ]
    try:
        from tests.frontends import test_onnx_contrib as contrib
    except Skipped:  # Without onnxruntime.
        return [m.SerializeToString() for m in made]
    cases = (*contrib.FUSED, *contrib.NORMALIZED, *contrib.EMBEDDED, *contrib.ATTENTIONS)
    return [m.SerializeToString() for m in (*made, *(c.proto() for c in cases))]


@cache
def onnx_beside() -> list[bytes]:
    """Models whose weights are in another file: both, as `joined` puts them together."""
    import onnx
    from onnx import TensorProto, helper

    made = []
    for count in (1, 3):
        weights = []
        for i in range(count):
            tensor = TensorProto(name=f"w{i}", data_type=1, dims=[4])
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "net.bin"), ("offset", str(16 * i)), ("length", "16")):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value
            weights.append(tensor)
        nodes = [
            helper.make_node("Add", [f"x{i}" if i else "x", f"w{i}"], [f"x{i + 1}"])
            for i in range(count)
        ]
        x, y = (helper.make_tensor_value_info(n, 1, ["N", 4]) for n in ("x", f"x{count}"))
        graph = helper.make_graph(nodes, "beside", [x], [y], weights)
        model = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
        bin_ = np.arange(4 * count, dtype="<f4").tobytes()
        made.append(joined(model.SerializeToString(), bin_))
    return made


def joined(first: bytes, second: bytes) -> bytes:
    """Two files as one; see `apart`."""
    return struct.pack("<I", len(first)) + first + second


def apart(data: bytes) -> tuple[bytes, bytes]:
    """The inverse of `joined`, for whatever bytes."""
    length = struct.unpack("<I", data[:4].ljust(4, b"\0"))[0]
    return data[4 : 4 + length], data[4 + length :]


# Keras --------------------------------------------------------------------------------------------


def _layer(kind: str, name: str, after: str, old: bool, **config: Any) -> dict[str, Any]:
    shape = {"shape": [None, 4], "dtype": "float32", "keras_history": [after, 0, 0]}
    new = [{"args": [{"class_name": "__keras_tensor__", "config": shape}], "kwargs": {}}]
    nodes: Any = [[[after, 0, 0, {}]]] if old else new
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, "trainable": True, "dtype": "float32", **config},
        "registered_name": None,
        "name": name,
        "inbound_nodes": nodes if after else [],
    }


# Each layer, with its weights: in the order in which files have them.
_CHAINS: tuple[
    tuple[tuple[int, ...], list[tuple[str, dict[str, Any], list[tuple[int, ...]]]]], ...
] = (
    (
        (4,),
        [
            ("Dense", {"units": 3, "activation": "relu", "use_bias": True}, [(4, 3), (3,)]),
            ("LayerNormalization", {"axis": [-1], "epsilon": 1e-3}, [(3,), (3,)]),
            ("Dropout", {"rate": 0.1}, []),
            ("Dense", {"units": 1, "activation": "sigmoid", "use_bias": False}, [(3, 1)]),
        ],
    ),
    (
        (6, 4),
        [
            ("LSTM", {"units": 2, "return_sequences": True}, [(4, 8), (2, 8), (8,)]),
            ("Conv1D", {"filters": 3, "kernel_size": [3], "padding": "same"}, [(3, 2, 3), (3,)]),
            ("GlobalAveragePooling1D", {}, []),
            ("Reshape", {"target_shape": [3, 1]}, []),
        ],
    ),
    (
        (8, 8, 1),
        [
            (
                "Conv2D",
                {"filters": 2, "kernel_size": [3, 3], "strides": [2, 2]},
                [(3, 3, 1, 2), (2,)],
            ),
            ("BatchNormalization", {"axis": 3, "epsilon": 1e-3}, [(2,)] * 4),
            ("MaxPooling2D", {"pool_size": [2, 2]}, []),
            ("Flatten", {}, []),
        ],
    ),
)
_PATHS = {"LSTM": "lstm/cell", "Conv1D": "conv1d", "Conv2D": "conv2d", "Dense": "dense"}
_SNAKE = {"LayerNormalization": "layer_normalization", "BatchNormalization": "batch_normalization"}


def _config(shape: tuple[int, ...], chain: Any, old: bool) -> dict[str, Any]:
    first: Any = _layer("InputLayer", "x", "", old, batch_shape=[None, *shape])
    if old:
        first["config"] = {"name": "x", "batch_input_shape": [None, *shape], "dtype": "float32"}
    layers, last = [first], "x"
    for number, (kind, config, _) in enumerate(chain):
        name = f"layer{number}"
        layers.append(_layer(kind, name, last, old, **config))
        last = name
    ends = ([["x", 0, 0]], [[last, 0, 0]]) if old else (["x", 0, 0], [last, 0, 0])
    held = {"name": "m", "layers": layers, "input_layers": ends[0], "output_layers": ends[1]}
    return {"module": "keras", "class_name": "Functional", "config": held}


def _array(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(len(shape)).normal(size=shape).astype("f4")


@cache
def keras_files() -> list[bytes]:
    """.keras files, and the real one."""
    import h5py

    made = []
    for shape, chain in _CHAINS:
        image, counts = io.BytesIO(), dict[str, int]()
        with h5py.File(image, "w") as file:
            for kind, _, weights in chain:
                path = _PATHS.get(kind) or _SNAKE.get(kind) or kind.lower()
                top, _, rest = path.partition("/")
                counts[top] = counts.get(top, -1) + 1
                number = f"_{counts[top]}" if counts[top] else ""
                group = file.create_group(
                    "/".join(filter(None, ("layers", top + number, rest, "vars")))
                )
                for i, one in enumerate(weights):
                    group[str(i)] = _array(one)
        text = json.dumps(_config(shape, chain, False)).encode()
        said = json.dumps({"keras_version": "3.8.0", "date_saved": "2025-01-01"}).encode()
        made.append(
            packed(
                [
                    ("metadata.json", said),
                    ("config.json", text),
                    ("model.weights.h5", image.getvalue()),
                ]
            )
        )
    return [*made, *made, (DATA / "higgs.keras").read_bytes()]


@cache
def h5_files() -> list[bytes]:
    """.h5 files, as Keras 2 and 3 write them."""
    import h5py

    made = []
    for shape, chain in _CHAINS:
        image = io.BytesIO()
        with h5py.File(image, "w") as file:
            file.attrs["keras_version"] = "2.15.0"
            file.attrs["backend"] = "tensorflow"
            file.attrs["model_config"] = json.dumps(_config(shape, chain, True))
            top = file.create_group("model_weights")
            top.attrs["layer_names"] = [f"layer{i}".encode() for i in range(len(chain))]
            for number, (_, _, weights) in enumerate(chain):
                group = top.create_group(f"layer{number}")
                names = [f"layer{number}/w{i}:0" for i in range(len(weights))]
                group.attrs["weight_names"] = [n.encode() for n in names]
                for name, one in zip(names, weights, strict=True):
                    group[name] = _array(one)
        made.append(image.getvalue())
    return made


# torch --------------------------------------------------------------------------------------------


@cache
def scripts() -> list[bytes]:
    """Small ones, and the real one."""
    small = [(DATA / f"small_{name}.pt").read_bytes() for name in ("script", "trace")]
    return [*small, *small, *small, (DATA / "higgs_residual.pt").read_bytes()]


@cache
def programs() -> list[bytes]:
    """A small one, and the real one."""
    small = (DATA / "small_program.pt2").read_bytes()
    return [*[small] * 6, (DATA / "higgs_residual.pt2").read_bytes()]


@cache
def pickles() -> list[bytes]:
    """Pickles of several protocols; one of torch.save, new and old."""
    state: dict[str, Any] = {"weight": [1.5] * 5, "bias": (None, True, {"a": b"x"}), "n": 2**40}
    made = [pickle.dumps(state, protocol=p) for p in (2, 3, 4, 5)]
    tensor = (
        b"\x80\x02}q\0X\1\0\0\0wq\1ctorch._utils\n_rebuild_tensor_v2\nq\2((X\7\0\0\0storageq\3"
        b"ctorch\nFloatStorage\nq\4X\1\0\0\0000q\5X\3\0\0\0cpuq\6K\4tQK\0K\4\x85K\1\x85\x89"
        b"ccollections\nOrderedDict\n)RtRs."
    )
    made.append(tensor)
    made.append(packed([("m/data.pkl", tensor), ("m/data/0", bytes(16)), ("m/version", b"3\n")]))
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    made.append(magic + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2) + tensor)
    return made


# Trees --------------------------------------------------------------------------------------------


_TREE: dict[str, Any] = {
    "base_weights": [0.1, 0.2, -0.3, 0.5, 0.6],
    "categories": [],
    "categories_nodes": [],
    "categories_segments": [],
    "categories_sizes": [],
    "default_left": [1, 0, 0, 0, 0],
    "id": 0,
    "left_children": [1, -1, 3, -1, -1],
    "loss_changes": [9.0, 0.0, 4.0, 0.0, 0.0],
    "parents": [2147483647, 0, 0, 2, 2],
    "right_children": [2, -1, 4, -1, -1],
    "split_conditions": [0.5, 0.2, 1.5, 0.5, 0.6],
    "split_indices": [1, 0, 2, 0, 0],
    "split_type": [0, 0, 0, 0, 0],
    "sum_hessian": [9.0, 4.0, 5.0, 2.0, 3.0],
    "tree_param": {
        "num_deleted": "0",
        "num_feature": "7",
        "num_nodes": "5",
        "size_leaf_vector": "1",
    },
}


@cache
def xgboost_trees() -> list[Any]:
    """Boosters as trees of values: with numbers, with categories, linear, and with weights."""
    from sofie_rdf.frontends.trees import ubjson
    from tests.fuzz_files.values import copied

    held = _plain(ubjson.parse((DATA / "higgs_xgboost.ubj").read_bytes()))
    model = held["learner"]["gradient_booster"]["model"]
    model["trees"], model["tree_info"] = [copied(_TREE), {**copied(_TREE), "id": 1}], [0, 0]
    model["gbtree_model_param"]["num_trees"] = "2"
    if "iteration_indptr" in model:
        model["iteration_indptr"] = [0, 1, 2]
    categorical, linear, dart = (copied(held) for _ in range(3))
    tree = categorical["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["split_type"][0] = 1
    tree["categories"], tree["categories_nodes"] = [0, 2], [0]
    tree["categories_segments"], tree["categories_sizes"] = [0], [2]
    linear["learner"]["gradient_booster"] = {"name": "gblinear", "model": {"weights": [0.5] * 8}}
    booster = dart["learner"]["gradient_booster"]
    dart["learner"]["gradient_booster"] = {
        "name": "dart",
        "gbtree": booster,
        "weight_drop": [1.0, 0.5],
    }
    return [held, categorical, linear, dart]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, np.ndarray)):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


@cache
def lightgbm_files() -> list[bytes]:
    """The beginning of the real one, and one with categories and linear leaves."""
    text = (DATA / "higgs_lightgbm.txt").read_text()
    head, _, rest = text.partition("Tree=0")
    trees = ("Tree=0" + rest).split("\n\n\n")[:2]
    tail = "\n\n\nend of trees\n\nfeature_importances:\nm_jj=1\n\nparameters:\n[boosting: gbdt]\n"
    head = "\n".join(line for line in head.split("\n") if not line.startswith("tree_sizes"))
    plain = head + "\n\n\n".join(trees) + tail
    small = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        "max_feature_idx=1\nobjective=regression\nfeature_names=a b\nfeature_infos=[0:1] 0:1:2\n\n"
        "Tree=0\nnum_leaves=3\nnum_cat=1\nsplit_feature=0 1\nsplit_gain=1 1\nthreshold=0.5 0\n"
        "decision_type=10 1\nleft_child=1 -1\nright_child=-2 -3\nleaf_value=0.1 0.2 0.3\n"
        "leaf_weight=1 1 1\nleaf_count=1 1 1\ninternal_value=0 0\ninternal_weight=0 0\n"
        "internal_count=3 2\ncat_boundaries=0 1\ncat_threshold=5\nis_linear=0\n"
        "shrinkage=0.1\n\n\nend of trees\n"
    )
    return [plain.encode(), small.encode(), small.encode(), small.replace("\n", "\r\n").encode()]


# Ours ---------------------------------------------------------------------------------------------


@cache
def small_model() -> Any:
    """A model with two layers, whose numbers depend on all weights."""
    from onnx import TensorProto, helper

    import sofie_rdf as sofie

    rng = np.random.default_rng(5)
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("Add", ["b", "w"], ["y"]),
    ]
    weights = [
        helper.make_tensor("v", TensorProto.FLOAT, [4, 3], rng.normal(size=12)),
        helper.make_tensor("w", TensorProto.FLOAT, [3], rng.normal(size=3)),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "small", [x], [y], weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model = sofie.from_onnx(proto.SerializeToString())
    return model.named(features=["pt", "eta", "phi", "m"], labels=["b", "c", "light"])


@cache
def root_files() -> list[bytes]:
    """A model as it is saved; and the same, written by `rootfiles`."""
    from tests.fuzz_files.rootfiles import parts_of, written

    saved = saved_file(ntuple=False)
    return [saved, written([parts_of(saved)])]


@cache
def short_files() -> list[bytes]:
    """The same with a header of one line, which takes less time."""
    from tests.fuzz_files.rootfiles import parts_of, written

    plain = saved_file(ntuple=False, header="// header\n")
    return [plain, written([parts_of(plain)]), *root_files()]


@cache
def ntuple_files() -> list[bytes]:
    return [saved_file(ntuple=True, header="// header\n")]


def saved_file(ntuple: bool, header: str = "") -> bytes:
    """What `Model.save` writes, with another header where one is given."""
    import tempfile

    from sofie_rdf.ir import rootfile
    from sofie_rdf.runtime.files.macro import macro_of

    model = small_model()
    macro = macro_of(model.optimized, model.emission)
    if header:
        macro = replace(macro, header=header)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.root")
        rootfile.save(model.graph, path, macro=macro, ntuple=ntuple)
        return path.read_bytes()


@cache
def texts() -> list[bytes]:
    """Graphs as text, each with its constants: of operators, bodies, and symbolic sizes."""
    from sofie_rdf.errors import SofieError
    from sofie_rdf.frontends.onnx.reader import read
    from sofie_rdf.ir.text import graph_text

    found = []
    for model in islice(onnx_models(), 0, None, 3):
        try:
            graph = read(model)
        except SofieError:
            continue
        held = io.BytesIO()
        np.savez(held, **{f"c_{name}": array for name, array in graph.constants.items()})
        found.append(joined(graph_text(graph).encode(), held.getvalue()))
    return found


@cache
def constants_of(data: bytes) -> dict[str, Any]:
    """The constants that stand behind a text."""
    with np.load(io.BytesIO(data)) as held:
        return {name[2:]: held[name] for name in held.files}


@cache
def weight_files() -> list[bytes]:
    """The weight file of the small model, and others of the same tensors and more."""
    from sofie_rdf.emit.weights import weight_file

    rng = np.random.default_rng(3)
    arrays = [rng.normal(size=n).astype("f4") for n in (12, 3)]
    return [weight_file(arrays), weight_file([*arrays, np.arange(5, dtype="i8")]), weight_file([])]


@cache
def marked_weights() -> list[bytes]:
    """Those with their marks; see `weightfiles`."""
    from tests.fuzz_files.weightfiles import SEALED

    return [SEALED + data for data in weight_files()]


@cache
def marked_texts() -> list[bytes]:
    from tests.fuzz_files.weightfiles import text_of

    return [text_of(data) for data in marked_weights()]


@cache
def root_readable() -> list[bytes]:
    """What C++ reads, with short headers."""
    return short_files()[:2]


@cache
def lwtnn_networks() -> list[bytes]:
    """Networks of each kind of layer, and a graph of each kind of node."""
    from tests.frontends.lwtnn.documents import Made, graph, layered

    made = Made()
    stacks = [
        [made.dense(4, 3, {"function": "elu", "alpha": 0.5}), made.normalization(3)],
        [made.maxout(4, 3, 2), made.highway(3), made.dense(3, 3, "softmax")],
        [made.recurrent("lstm", 4, 2), made.recurrent("gru", 2, 2), made.dense(2, 3, "abs")],
        [made.embedding(3, 4, 2), made.recurrent("simplernn", 5, 3)],
    ]
    held = (graph(), *(layered(s, 4, 3) for s in stacks))
    return [json.dumps(_rounded(one)).encode() for one in held]


def _rounded(tree: Any) -> Any:
    """Numbers of few digits: whoever reads them, and changes them, takes as long as for many."""
    return json.loads(json.dumps(tree), parse_float=lambda text: round(float(text), 2))


@cache
def normalizations() -> list[bytes]:
    """Files of weaver and lwtnn, and means."""
    own = {"median": 1.3, "norm_factor": 0.5, "replace_inf_value": 0}
    own |= {"lower_bound": -5, "upper_bound": 5, "pad": 0}
    group = {"var_names": ["a", "b"], "var_infos": {"a": own, "b": own}}
    weaver = {
        "input_names": ["points", "jet"],
        "points": {**group, "min_length": 3, "max_length": 6},
        "jet": {**group, "var_length": 1},
    }
    variables = [{"name": n, "offset": -1.5, "scale": 2.0} for n in "abcd"]
    lwtnn = {
        "inputs": [{"name": "node_0", "variables": variables}],
        "outputs": [{"name": "out", "labels": ["u", "v", "w", "z"]}],
        "input_sequences": [],
    }
    old = {"inputs": variables, "class_name": "x", "keras_version": "1.2"}
    plain = {"mean": [0.5, 1, 2, 3], "std": [1, 2, 3, 4]}
    other = {"x": {"offset": [1, 2, 3, 4], "scale": [1, 2, 3, 4]}}
    return [json.dumps(held).encode() for held in (weaver, lwtnn, old, plain, other)]
