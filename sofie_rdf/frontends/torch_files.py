"""Files of torch, and pickles of others: what is in them is found out before torch opens them.

Nothing is unpickled unless ``weights_only=False`` asks for it. A .pt2 file is looked through by
`torch_archive` first, because ``torch.export.load`` runs what a hostile file says.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sofie_rdf.errors import CorruptFile, SofieError, UnsupportedFormat
from sofie_rdf.frontends import recognise
from sofie_rdf.frontends.torch_export import quiet, reason, require
from sofie_rdf.frontends.torch_pickles import Pickle, is_legacy, names_in, parts

if TYPE_CHECKING:
    import torch

__all__ = ["opened"]

_SAVE = (
    "Save the module with its structure: torch.export.save(torch.export.export(module, args), "
    '"m.pt2") or torch.jit.script(module).save("m.pt"); or build it, load the weights into it and '
    "call sofie_rdf.from_torch(module, example_inputs)"
)
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
    _refuse_damage(path)
    require()
    return (_program(path), kind) if kind == "pt2" else (_script(path), kind)


def _refuse_damage(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError) as error:
        raise CorruptFile(f"is damaged: {error}", place=path.name) from error
    if wrong:
        raise CorruptFile(
            f"is damaged: {wrong!r} is not what was written",
            place=path.name,
            remedy="Copy or download it again",
        )


def _script(path: Path) -> Any:
    import torch

    load = partial(torch.jit.load, map_location="cpu")
    return _loaded(path, load, "of a newer torch")


def _program(path: Path) -> torch.export.ExportedProgram:
    import torch

    from sofie_rdf.frontends.torch_archive import refuse_hostile

    refuse_hostile(path)
    return _loaded(path, torch.export.load, "of another version of torch: export the model again")


def _loaded(path: Path, load: Callable[[str], Any], otherwise: str) -> Any:
    """What torch loads; `CorruptFile` where it does not: the file is damaged, or ``otherwise``."""
    import torch

    try:
        with quiet():
            return load(str(path))
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
        _refuse_damage(path)
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.namelist() if m.endswith("data.pkl")]
            found, whole = names_in(archive.read(members[0]))
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
