"""Files of torch, and pickles of others: what is in them is found out before torch opens them.

Nothing is unpickled unless ``weights_only=False`` asks for it. A .pt2 file is looked through by
`torch.archive` first, because ``torch.export.load`` runs what a hostile file says.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofie_rdf import limits
from sofie_rdf.errors import CorruptFile, SofieError, UnsupportedFormat
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.torch.calls import quiet
from sofie_rdf.frontends.torch.export import reason, require
from sofie_rdf.frontends.torch.pickles import Pickle, is_legacy, names_in, parts

if TYPE_CHECKING:
    import torch

__all__ = ["opened"]

_SAVE = (
    "Save the module with its structure: torch.export.save(torch.export.export(module, args), "
    '"m.pt2") or torch.jit.script(module).save("m.pt"); or build it, load the weights into it and '
    "call sofie_rdf.from_torch(module, example_inputs)"
)
_OTHER_VERSION = "of another version of torch: export the model again"
# Which packages' objects a pickle may hold, and how to go on with them.
_OTHERS = {
    "sklearn": (
        "a scikit-learn model",
        "Convert it to ONNX with skl2onnx, or load it and give it to sofie_rdf.from_sklearn",
    ),
    "joblib": ("a joblib file", "Load it, and convert the model to ONNX with skl2onnx"),
    "xgboost": ("an XGBoost model", 'Load it and call its save_model("m.json")'),
    "lightgbm": ("a LightGBM model", 'Load it and call booster_.save_model("m.txt")'),
    "keras": ("a Keras model", 'Load it and call its save("m.keras")'),
    "tensorflow": ("a TensorFlow model", "Load it and convert it to ONNX with tf2onnx"),
}


def opened(path: Path, weights_only: bool | None) -> tuple[Any, str]:
    """What torch makes of a file, and its kind: a module, a script or an exported program."""
    kind = recognise(path)
    if kind in ("torch", "pickle"):
        found = _pickle_in(path, kind)
        if not found.is_torch or weights_only is not False:
            raise _refusal(path, found)
        require()
        return _unpickled(path), "torch"
    try:
        # What is hostile is refused before torch is loaded, which takes seconds.
        return (_program(path), kind) if kind == "pt2" else (_script(path), kind)
    except RecursionError as error:
        raise CorruptFile("is nested too deeply", place=path.name) from error


def _pickle_of(path: Path) -> bytes:
    """The pickle in a file of torch.save, all of whose members are what was written."""
    with limits.archive(path, place=path.name) as archive:
        for member in archive.infolist():
            content = limits.unpacked(archive, member)
            if member.filename.endswith("data.pkl"):
                found = content
    return found


def _script(path: Path) -> Any:
    from sofie_rdf.frontends.torch import script_archive as torch_script_archive
    from sofie_rdf.frontends.torch.rebuilt import compare_weights
    from sofie_rdf.frontends.torch.zip import written

    script = torch_script_archive.read(path)
    remade = io.BytesIO(written(script.members, "model"))
    require()
    import torch

    module = _loaded(path, lambda: torch.jit.load(remade, map_location="cpu"), "of a newer torch")
    compare_weights(dict(module.state_dict(keep_vars=True)), script.weights, path.name)
    return module


def _program(path: Path) -> torch.export.ExportedProgram:
    from sofie_rdf.frontends.torch import archive as torch_archive
    from sofie_rdf.frontends.torch.rebuilt import archive_for_torch, compare_weights

    archive = torch_archive.read(path)
    require()
    import torch

    remade = _loaded(path, lambda: archive_for_torch(archive), _OTHER_VERSION)
    program = _loaded(path, lambda: torch.export.load(remade), _OTHER_VERSION)
    found = {**program.state_dict, **program.constants}
    compare_weights(found, archive.weights, path.name)
    return program


def _loaded(path: Path, load: Callable[[], Any], otherwise: str) -> Any:
    """What torch loads; `CorruptFile` where it does not: the file is damaged, or ``otherwise``."""
    import torch

    try:
        with quiet():
            return load()
    except Exception as error:
        raise CorruptFile(
            f"cannot be loaded by torch {torch.__version__}: {reason(error)}",
            place=path.name,
            remedy=f"It is damaged, or {otherwise}",
        ) from error


def _unpickled(path: Path) -> torch.nn.Module:
    """The module that a pickle makes. This runs the code that the pickle names."""
    import torch

    try:
        with quiet():
            module = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise UnsupportedFormat(
            f"needs the classes of the module: {reason(error)}",
            place=path.name,
            remedy="Import or define them first, where they were when it was saved",
        ) from error
    except Exception as error:
        raise CorruptFile(f"cannot be loaded by torch: {reason(error)}", place=path.name) from error
    if not isinstance(module, torch.nn.Module):
        raise UnsupportedFormat(
            f"holds a {type(module).__name__}, which is no module", place=path.name, remedy=_SAVE
        )
    return module


def _pickle_in(path: Path, kind: str) -> Pickle:
    if kind == "torch":
        found, whole = names_in(_pickle_of(path))
        return Pickle(found, True, whole)
    content = path.read_bytes()
    legacy = is_legacy(content)
    names: dict[str, None] = {}
    whole = True
    for part in parts(content) if legacy else (content,):
        found, whole = names_in(part)
        names.update(dict.fromkeys(found))
    torches = legacy or any(n.startswith("torch.") for n in names)
    return Pickle(tuple(names), torches, whole)


def _refusal(path: Path, found: Pickle) -> SofieError:
    place = path.name
    if not found.whole and not found.names:
        return CorruptFile("is a pickle that is damaged", place=place)
    if not found.is_torch:
        tops = [name.split(".")[0] for name in found.names]
        for package, (about, remedy) in _OTHERS.items():
            if package in tops:
                return UnsupportedFormat(
                    f"is a pickle with {about}, and pickles are not opened",
                    place=place,
                    remedy=remedy,
                )
        return UnsupportedFormat(
            "is a pickle, which is not opened: it could run anything",
            place=place,
            remedy="Convert the model that is in it to ONNX",
        )
    if not found.classes:
        return UnsupportedFormat(
            "holds weights (a state_dict), and not the network that they are for",
            place=place,
            remedy=_SAVE,
        )
    shown = ", ".join(found.classes[:3]) + (", ..." if len(found.classes) > 3 else "")
    return UnsupportedFormat(
        f"is a pickle of objects ({shown}), which is not opened: it could run anything",
        place=place,
        remedy=f"{_SAVE}. For a whole module of a source that you trust: weights_only=False, with "
        "example_inputs=",
    )
