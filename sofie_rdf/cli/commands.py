"""What each command of `sofie-rdf` does, once its arguments are known."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.console import RenderableType

from sofie_rdf import frontends
from sofie_rdf.cli import depfile, operators, tables
from sofie_rdf.cli import precision as narrow
from sofie_rdf.devices.targets import standard_of
from sofie_rdf.errors import InputError
from sofie_rdf.frontends.onnx.catalogue import catalogue
from sofie_rdf.ir import rootfile
from sofie_rdf.model import Model, load
from sofie_rdf.model import check as problems_of
from sofie_rdf.model import trust as vouch_for
from sofie_rdf.runtime.cache import disk
from sofie_rdf.runtime.cache.trust import is_trusted
from sofie_rdf.summary import explanation

__all__ = [
    "apply",
    "cache",
    "check",
    "convert",
    "emit",
    "inspect",
    "ops",
    "precision",
    "profile",
    "trust",
    "verify",
]

T = TypeVar("T")


def inspect(arguments: Namespace) -> int:
    """Tables, text or JSON about the model, or about all models of a .root file."""
    if arguments.registers and arguments.target != "alpaka":
        raise InputError("--registers is what nvcc says of --target alpaka")
    if arguments.simd and not arguments.kernels:
        raise InputError("--simd says for which instruction sets --kernels shows kernels")
    models = _models(arguments)
    if arguments.target != "cpu":
        return _on_device(models, arguments)
    if arguments.kernels:
        return _kernels(models, arguments)
    if arguments.json:
        described = {
            "file": arguments.file,
            "models": [tables.as_json(m) | _stored(arguments.file, m.name) for m in models],
        }
        _as_json(described)
    elif arguments.plot or arguments.html:
        return _drawn(models, arguments)
    elif arguments.why:
        sys.stdout.write("\n\n".join(explanation(m.graph) for m in models) + "\n")
    elif arguments.graph or arguments.ir:
        for model in models:
            sys.stdout.write(
                f"{model.graph if arguments.graph else model.optimized}".rstrip() + "\n"
            )
    elif len(models) == 1:
        tables.show(tables.model_tables(models[0]))
        if stored := _stored(arguments.file, models[0].name).get("stored"):
            tables.show([tables.storage(stored)])
    else:
        tables.show([tables.model_list(models)])
        tables.message(f"--name NAME shows one of these {len(models)} models", kind="note")
    return 0


def _kernels(models: Sequence[Model], arguments: Namespace) -> int:
    """What each node that runs calls, instead of what the nodes are."""
    from sofie_rdf.cli import kernels

    _require_alone(arguments, "--kernels")
    found = [one for model in models for one in kernels.kernels_of(model, arguments)]
    return _listed(found, kernels.as_json, kernels.kernel_tables, arguments)


def _on_device(models: Sequence[Model], arguments: Namespace) -> int:
    """The kernels for a device instead of the nodes that run on a CPU."""
    from sofie_rdf.cli import devices

    _require_alone(arguments, "--target")
    found = [devices.on_device(model, arguments) for model in models]
    return _listed(found, devices.as_json, devices.device_tables, arguments)


def _require_alone(arguments: Namespace, option: str) -> None:
    if any((arguments.graph, arguments.ir, arguments.why, arguments.plot, arguments.html)):
        raise InputError(f"{option} shows kernels: a table, or --json")


def _listed(
    found: Sequence[T],
    as_json: Callable[[T], dict[str, Any]],
    as_tables: Callable[[T], Sequence[RenderableType]],
    arguments: Namespace,
) -> int:
    """The kernels of all models, as JSON or as tables."""
    if arguments.json:
        _as_json({"file": arguments.file, "models": [as_json(one) for one in found]})
    else:
        for one in found:
            tables.show(as_tables(one))
    return 0


def _as_json(described: Any) -> None:
    sys.stdout.write(json.dumps(described, indent=2) + "\n")


def _drawn(models: Sequence[Model], arguments: Namespace) -> int:
    """A picture or a page of one model, whose path is printed."""
    from sofie_rdf.cli import page

    if len(models) > 1:
        listed = ", ".join(model.name for model in models)
        raise InputError(f"there are several models: {listed}", remedy="Choose one: --name NAME")
    path = arguments.plot or arguments.html
    page.write(path, page.drawing(models[0]) if arguments.plot else page.page(models[0]))
    sys.stdout.write(f"{path}\n")
    return 0


def _stored(file: str, name: str) -> dict[str, Any]:
    """What a .root file says about how a model was stored."""
    if frontends.recognise(Path(file)) != "root":
        return {}
    about = dict(rootfile.about(file, name))
    return {"stored": {**about, "trusted": is_trusted(about["sha256"])}}


def _models(arguments: Namespace) -> list[Model]:
    names = [arguments.name]
    if not arguments.name and frontends.recognise(Path(arguments.file)) == "root":
        names = rootfile.names(arguments.file) or names
    return [_loaded(arguments, name) for name in names]


def _loaded(arguments: Namespace, name: str) -> Model:
    """The model of that name: normalised, differentiated, in the precision that is asked for."""
    model = load(arguments.file, name, **_options(arguments))
    if arguments.normalization:
        model = model.normalized(arguments.normalization)
    if arguments.gradient:
        model = model.gradient(of=arguments.of, wrt=arguments.wrt)
    elif arguments.of or arguments.wrt:
        raise InputError("--of and --wrt say of what, and by what, --gradient differentiates")
    if arguments.seed is not None:
        model = model.with_seed(arguments.seed)
    return model.with_precision(arguments.precision) if arguments.precision else model


def _options(arguments: Namespace) -> dict[str, Any]:
    """What the command line says about the inputs and limits, as `load` takes it."""
    return {
        "shapes": arguments.shapes,
        "input_shapes": arguments.input_shapes,
        "isolated": arguments.isolated,
        "limits": arguments.limits,
    }


def check(arguments: Namespace) -> int:
    """All problems of all files; 1 if there is any."""
    given = {**_options(arguments), "target": arguments.target}
    found = [(file, problems_of(file, **given)) for file in arguments.files]
    if arguments.json:
        _as_json({"files": [tables.verdict_as_json(*one) for one in found]})
    else:
        tables.show((tables.verdict(file, problems) for file, problems in found), wrap=False)
    return int(any(problems for _, problems in found))


def convert(arguments: Namespace) -> int:
    """The model into the .root file, whose path is printed."""
    model = _loaded(arguments, arguments.name)
    model.save(
        arguments.output,
        overwrite=not arguments.no_overwrite,
        via=arguments.via,
        ntuple=arguments.ntuple,
    )
    sys.stdout.write(f"{arguments.output}\n")
    tables.message(f"model {model.name!r} is in {arguments.output}")
    return 0


def trust(arguments: Namespace) -> int:
    """The checksums of the models, one a line, once they are trusted."""
    # Of a file without models that is an error.
    names = [arguments.name] if arguments.name else rootfile.names(arguments.file) or [""]
    for name in names:
        sys.stdout.write(f"{vouch_for(arguments.file, name)}\n")
        tables.message(f"macros may run model {name!r} of {arguments.file}")
    return 0


def emit(arguments: Namespace) -> int:
    """The header and the weight file, whose paths are printed."""
    model = _loaded(arguments, arguments.name)
    files = model.emit(
        arguments.output,
        standalone=arguments.standalone,
        weights=arguments.weights,
        target=arguments.target,
    )
    if arguments.depfile:
        others = [arguments.normalization or ""]
        needed = depfile.dependencies(Path(arguments.file), model.graph, others)
        depfile.write(Path(arguments.depfile), files.header, needed)
    written = (files.header, files.weights)
    sys.stdout.write("".join(f"{path}\n" for path in written if path))
    flags = " ".join(f"-I{path}" for path in (files.header.parent, *files.include))
    standard = standard_of(arguments.target)
    tables.message(f"{files.namespace}::Session; compile with g++ -std={standard} {flags}")
    return 0


def apply(arguments: Namespace) -> int:
    """The scores of all events of a tree, in a new file, whose path is printed."""
    # ROOT's trees are needed here alone.
    from sofie_rdf.cli.apply import score

    return score(_loaded(arguments, arguments.name), arguments)


def precision(arguments: Namespace) -> int:
    """What weights in fewer bits change on the events that are given."""
    return narrow.measure(_loaded(arguments, arguments.name), arguments)


def verify(arguments: Namespace) -> int:
    """Whether the model gives what the library it is from gives; 1 if not."""
    from sofie_rdf.cli.verify import comparison

    return comparison(_loaded(arguments, arguments.name), arguments)


def profile(arguments: Namespace) -> int:
    """The time of each node as it runs."""
    from sofie_rdf.cli.profile import show

    return show(_loaded(arguments, arguments.name), arguments)


def ops(arguments: Namespace) -> int:
    """The table of operators; 1 if there is none of such a name."""
    entries = list(catalogue(arguments.pattern, own=arguments.all))
    rows = [operators.row(e) for e in entries]
    if arguments.json:
        _as_json({"operators": [operators.as_json(e) for e in entries]})
        return int(not rows)
    if not rows:
        tables.message(f"no operator is called {arguments.pattern!r}", kind="error")
        return 1
    if arguments.markdown:
        sys.stdout.write("".join(f"{line}\n" for line in operators.markdown(rows)))
    else:
        tables.show([tables.listing(operators.COLUMNS, rows)])
    for line in operators.LEGEND.splitlines():
        tables.message(line)
    return 0


def cache(arguments: Namespace) -> int:
    """The folder of the cache and its size, or what there was before it was cleared."""
    folder = disk.folder()
    if folder is None:
        tables.message("there is no cache: SOFIE_RDF_CACHE is off, or there is no home")
        return 0
    files = disk.entries()
    if arguments.clear:
        disk.clear()
    sizes = f"{len(files)} files, {sum(size for _, size in files):,} bytes"
    sys.stdout.write(f"{folder}\n")
    tables.message(f"{sizes}{' removed' if arguments.clear else ''}")
    return 0
