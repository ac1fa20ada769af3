"""What the macros of cling/sofie/rdf/tmva.hxx ask for in a new process.

The first argument is the file for the answer, the second what is asked, the others are KEY=VALUE.
The answer is a list of keys and values, each written as its size in bytes, a space, and the bytes.
Exit code 1 and a message on the error stream for what is wrong.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sofie_rdf.compat import texts
from sofie_rdf.compat.parsers import PyKeras, PyTorch, RModelParser_ONNX
from sofie_rdf.compat.rmodel import RModel, fixed
from sofie_rdf.emit import files
from sofie_rdf.emit.session import emit
from sofie_rdf.errors import ModelError, SofieError
from sofie_rdf.ir.rows import drawn_rows
from sofie_rdf.ir.types import DType
from sofie_rdf.model import check, load

__all__ = ["main"]

Answer = Iterator[tuple[str, "str | bytes"]]


class _Request:
    """The arguments, by key; one may be given several times."""

    def __init__(self, arguments: list[str]) -> None:
        self._given = [tuple(argument.split("=", 1)) for argument in arguments]

    def all(self, key: str) -> list[str]:
        return [value for given, value in self._given if given == key]

    def get(self, key: str, default: str = "") -> str:
        return next(iter(self.all(key)), default)

    def number(self, key: str, default: int = 0) -> int:
        return int(self.get(key, str(default)))

    def model(self) -> RModel:
        """The model as it was parsed; ModelError if the file is another one by now."""
        file, known = self.get("file"), self.get("sha")
        if known and known != _sha(file):
            raise ModelError("has changed since it was parsed", place=file)
        kind = self.get("kind")
        if kind == "keras":
            return PyKeras.Parse(file, self.number("batch", 1))
        if kind == "torch":
            types = [int(t) for t in self.all("type")]
            return PyTorch.Parse(file, _shapes(self.all("shape")), types)
        if kind == "onnx":
            return RModelParser_ONNX().Parse(file)
        shapes = _shapes(self.all("shape"))
        return RModel(load(file, self.get("name"), input_shapes=shapes or None))


def _shapes(given: list[str]) -> list[list[int]]:
    return [[int(size) for size in shape.split(",") if size] for shape in given]


def _sha(file: str) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", place=file) from error


# What can be asked --------------------------------------------------------------------------------


def _parse(request: _Request) -> Answer:
    """Names, texts and all tensors of the model."""
    sha = _sha(request.get("file"))
    model = request.model()
    graph = model.model.graph
    yield "sha", sha
    yield "name", model.GetName()
    yield "namespace", model.GetNamespace()
    yield "PrintSummary", f"{model}\n"
    for function in texts.PRINTS:
        yield function, texts.listing(graph, function)
    for name, type_ in graph.types.items():
        known = all(isinstance(d, int) for d in type_.shape)
        kind = "constant" if name in graph.constants else "computed"
        kind = "input" if name in graph.inputs else kind
        yield "tensor", name
        yield "kind", kind
        yield "type", str(int(model.GetTensorType(name)))
        yield "shape", ",".join(map(str, type_.shape)) if known else "?"
    for name in graph.inputs:
        yield "input", name
    for name in graph.outputs:
        yield "output", name


def _generated(request: _Request) -> RModel:
    model = request.model()
    model.Generate(request.number("options"), request.number("size", -1), request.number("pos"))
    return model


def _generate(request: _Request) -> Answer:
    """The code, as PrintGenerated prints it."""
    yield "code", _generated(request).code()


def _output(request: _Request) -> Answer:
    """Writes the header and the weights."""
    _generated(request).OutputGenerated(request.get("header"), bool(request.number("append")))
    yield "done", ""


def _head(request: _Request) -> Answer:
    """The first elements of a tensor, as text."""
    yield "text", request.model().head(request.get("tensor"), request.number("most", 50))


def _data(request: _Request) -> Answer:
    """All elements of a tensor, as bytes."""
    values = request.model().GetTensorData[request.get("element")](request.get("tensor"))
    yield "data", values.tobytes()


def _write(request: _Request) -> Answer:
    """Stores the model in a .root file that nobody has open."""
    model = request.model().model
    model.save(request.get("root"), name=request.get("as"))
    yield "done", ""


def _check(request: _Request) -> Answer:
    for problem in check(request.get("file")):
        yield "problem", str(problem)


def _operators(_: _Request) -> Answer:
    for name in RModelParser_ONNX().GetRegisteredOperators():
        yield "operator", name


def _reader(request: _Request) -> Answer:
    """Writes the code for RSofieReader, in a namespace of its own, and says how to call it."""
    model = fixed(request.model().model, 1)
    graph, place = model.graph, request.get("file")
    if drawn_rows(model.optimized) is not None:
        raise ModelError(
            "draws random numbers, and this RSofieReader is told of no events to draw them for",
            place=place,
            remedy="Generate a Session, which has seed() and entry(); or take sofie::RSofieReader",
        )
    for role, names in (("input", graph.inputs), ("output", graph.outputs)):
        for name in names:
            type_ = graph.types[name]
            if type_.dtype is not DType.FLOAT32 or not isinstance(type_.size, int):
                raise ModelError(
                    f"{role} {name!r} is {type_}; RSofieReader takes and gives floats of known "
                    "number",
                    place=place,
                    remedy="Generate a Session instead, or fix the sizes when the model is made",
                )
            yield role, str(type_.size)
    emission = emit(model.optimized, model.plan, unique=True)
    files.write(emission, Path(request.get("header")), "file")
    yield "namespace", emission.namespace
    yield "PrintSummary", f"{model}\n"


_ACTIONS: dict[str, Callable[[_Request], Answer]] = {
    "check": _check,
    "data": _data,
    "generate": _generate,
    "head": _head,
    "operators": _operators,
    "output": _output,
    "parse": _parse,
    "reader": _reader,
    "write": _write,
}


def _framed(part: str | bytes) -> bytes:
    data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
    return b"%d %s" % (len(data), data)


def main(arguments: list[str]) -> int:
    answer, action, *given = arguments
    try:
        parts = list(_ACTIONS[action](_Request(given)))
    except SofieError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    Path(answer).write_bytes(b"".join(_framed(p) for pair in parts for p in pair))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
