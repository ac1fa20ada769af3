"""RModel: a model as SOFIE's users know it, around `sofie_rdf.Model`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sofie_rdf.compat import texts
from sofie_rdf.compat.options import ETensorType, OptimizationLevel, Options, source_of, tensor_type
from sofie_rdf.emit import files
from sofie_rdf.emit.session import Emission, include_directories, namespace_of
from sofie_rdf.errors import InputError, ModelError, nearest
from sofie_rdf.ir.dims import Dim
from sofie_rdf.ir.types import Array, TensorType
from sofie_rdf.model import Model

__all__ = ["RModel", "fixed"]


class RModel:
    """What a parser gives: print it, generate its C++, write that to files.

    ``model`` is the `sofie_rdf.Model` that it stands for.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._options = Options.kDefault
        self._initialized = model
        # What is generated: the model, with the batch that `Generate` was given.
        self._generated: Model | None = None
        self._header: Path | None = None

    # Code ----------------------------------------------------------------------------------------

    def Initialize(self, batchSize: int | Mapping[str, int] = -1, verbose: bool = False) -> None:
        """Nothing has to be done before `Generate`; a batch that is given is fixed."""
        self._initialized = fixed(self.model, batchSize)
        if verbose:
            self.PrintSummary()

    def Generate(
        self,
        options: int = Options.kDefault,
        batchSize: int = -1,
        pos: int = 0,
        verbose: bool = False,
    ) -> None:
        """Compile the model to C++, which `PrintGenerated` and `OutputGenerated` show and write.

        ``options`` as in `Options`; ``batchSize`` fixes the first axis of the inputs where the
        model leaves it open. ``pos`` must be 0: a weight file holds one model.
        """
        source_of(options)
        if pos:
            raise InputError(
                f"Generate(pos={pos}): a weight file holds one model",
                remedy="Generate(kRootBinaryWeightFile) for several models in one file",
            )
        self._options = Options(options)
        self._generated = fixed(self._initialized, batchSize)
        _ = self._made.optimized
        if verbose:
            self.PrintSummary()

    @property
    def _made(self) -> Model:
        if self._generated is None:
            raise ModelError(
                "there is no code yet", place=self.GetName(), remedy="Call Generate() first"
            )
        return self._generated

    def _emission(self, header: Path) -> Emission:
        kind, session = source_of(self._options)
        made = self._made
        return files.emission_for(made.optimized, made.plan, header, kind, session=session)

    def OutputGenerated(self, filename: str = "", append: bool = False) -> None:
        """Write the header, by default NAME.hxx, and beside it the weights: NAME.dat, NAME.root.

        The header needs no other file to be compiled. ``append`` puts it behind other models in
        the same file, whose weights are in one .root file then.
        """
        header = Path(str(filename) or f"{self.GetName()}.hxx")
        kind, _ = source_of(self._options)
        emission = self._emission(header)
        if append and header.exists():
            self._may_append(header, kind, emission.namespace)
        include = include_directories(self._made.optimized)
        files.write(emission, header, kind, standalone=include, append=append)
        self._header = header

    @staticmethod
    def _may_append(header: Path, kind: str, namespace: str) -> None:
        if kind == "file":
            raise InputError(
                "models in one header need their weights in one .root file, or in the header",
                place=str(header),
                remedy="Generate(Options.kRootBinaryWeightFile)",
            )
        if f"namespace {namespace} " in header.read_text():
            raise ModelError(
                f"has a {namespace} already", place=str(header), remedy="Remove the file first"
            )

    def PrintGenerated(self) -> None:
        """Print the code; the kernels that OutputGenerated puts before it are left out."""
        sys.stdout.write(self.code())

    def code(self) -> str:
        """What `PrintGenerated` prints."""
        return self._emission(self._header or Path(f"{self.GetName()}.hxx")).header

    # Tensors -------------------------------------------------------------------------------------

    def GetName(self) -> str:
        return self.model.name

    def GetNamespace(self) -> str:
        """The namespace of the Session in the header."""
        return namespace_of(self.model.name)

    def GetInputTensorNames(self) -> list[str]:
        return list(self.model.inputs)

    def GetOutputTensorNames(self) -> list[str]:
        return list(self.model.outputs)

    def CheckIfTensorAlreadyExist(self, tensor_name: str) -> bool:
        return self._found(tensor_name) is not None

    def IsInitializedTensor(self, tensor_name: str) -> bool:
        return self._found(tensor_name) in self.model.graph.constants

    def IsReadyInputTensor(self, tensor_name: str) -> bool:
        return self._found(tensor_name) in self.model.graph.inputs

    def IsDynamicTensor(self, tensor_name: str) -> bool:
        name = self._found(tensor_name)
        types = self.model.graph.types
        return name is not None and not all(isinstance(d, int) for d in types[name].shape)

    def GetTensorShape(self, name: str) -> list[int]:
        """The sizes of a tensor, all of which must be known."""
        shape = self._type(name).shape
        if not all(isinstance(d, int) for d in shape):
            raise ModelError(
                f"tensor {name!r} has the shape [{', '.join(map(str, shape))}]",
                place=self.GetName(),
                remedy="GetDynamicTensorShape gives it",
            )
        return [int(d) for d in shape if isinstance(d, int)]

    def GetDynamicTensorShape(self, name: str) -> list[str]:
        """The sizes of a tensor as text, where some are names."""
        return [str(d) for d in self._type(name).shape]

    GetDimTensorShape = GetDynamicTensorShape

    def GetTensorType(self, name: str) -> ETensorType:
        return tensor_type(self._type(name).dtype)

    @property
    def GetTensorData(self) -> Mapping[str, Callable[[str], Array]]:
        """``GetTensorData["float"](name)``: the elements of an initialized tensor, flat."""
        return _DataOfType(self)

    def _type(self, name: str) -> TensorType:
        return self.model.graph.types[self._need(name)]

    def _need(self, name: str) -> str:
        found = self._found(name)
        if found is None:
            remedy = nearest(name, self.model.graph.types)
            raise ModelError(f"has no tensor {name!r}", place=self.GetName(), remedy=remedy)
        return found

    def _found(self, name: str) -> str | None:
        """The tensor of that name, which may be written as SOFIE writes it: without signs."""
        types = self.model.graph.types
        if name in types:
            return str(name)
        for sign in ("", "_"):
            for known in types:
                if re.sub(r"[^0-9A-Za-z_]", sign, known) == name:
                    return known
        return None

    # Texts ---------------------------------------------------------------------------------------

    def PrintSummary(self) -> None:
        sys.stdout.write(f"{self.model}\n")

    def PrintRequiredInputTensors(self) -> None:
        self._print("PrintRequiredInputTensors")

    def PrintInitializedTensors(self) -> None:
        self._print("PrintInitializedTensors")

    def PrintIntermediateTensors(self) -> None:
        self._print("PrintIntermediateTensors")

    def PrintDynamicTensors(self) -> None:
        self._print("PrintDynamicTensors")

    def PrintOutputTensors(self) -> None:
        self._print("PrintOutputTensors")

    def HeadInitializedTensors(self, name: str, n_print: int = 50) -> None:
        sys.stdout.write(self.head(name, n_print))

    def head(self, name: str, most: int) -> str:
        """What `HeadInitializedTensors` prints."""
        found = self._need(name)
        if found not in self.model.graph.constants:
            raise ModelError(f"{name!r} is no initialized tensor", place=self.GetName())
        return texts.head(found, self.model.graph.constants[found], most)

    def _print(self, function: str) -> None:
        sys.stdout.write(texts.listing(self.model.graph, function))

    # Files ---------------------------------------------------------------------------------------

    def Write(self, name: str = "", option: int = 0, bufsize: int = 0) -> int:
        """Store the model in the ROOT file that is open for writing: ROOT's current directory.

        ``file.Get(name)`` and ``sofie_rdf.load(path, name)`` give it back, also where
        there is no ROOT. ``option`` and ``bufsize`` mean nothing.
        """
        from sofie_rdf.runtime.cache import trust
        from sofie_rdf.runtime.files import rootio
        from sofie_rdf.runtime.files.macro import macro_of

        del option, bufsize
        named = Model(replace(self.model.graph, name=name or self.GetName()), self.model.extras)
        macro = macro_of(named.optimized, named.emission)
        sha256 = rootio.save_here(named.graph, name=named.name, extras=named.extras, macro=macro)
        trust.trust(sha256, named.name)
        return 1

    @classmethod
    def Read(cls, file: Any, name: str = "") -> RModel:
        """The model of that name in a .root file: its path, or a TFile that is open."""
        from sofie_rdf.model import load

        if isinstance(file, (str, Path)):
            path = str(file)
        else:
            path = str(file.GetName())
            if file.IsWritable():  # It is open: what is in memory is written first.
                file.SaveSelf(True)
                file.WriteFree()
                file.WriteHeader()
                file.Flush()
        return cls(load(path, name))

    # What means nothing --------------------------------------------------------------------------

    def SetOptimizationLevel(self, level: int = OptimizationLevel.kExtended) -> None:
        """Accepted, and without meaning: what can be made faster always is."""

    def SetUseVDT(self, on: bool = True) -> None:
        """Accepted, and without meaning: the kernels have vector functions of their own."""

    def __str__(self) -> str:
        return str(self.model)


def fixed(model: Model, sizes: int | Mapping[str, int]) -> Model:
    """The model with these sizes for named ones; a number is that of the batch, if it is positive.

    The batch is the first axis of the first input. Where that has a size already, it stays.
    """
    graph = model.graph
    if not isinstance(sizes, Mapping):
        first = [str(d) for i in graph.inputs[:1] for d in graph.types[i].shape[:1]]
        sizes = {name: sizes for name in first if name in graph.symbols and sizes > 0}
    wanted: dict[str, Dim] = {}
    for name, size in sizes.items():
        if name not in graph.symbols:
            known = ", ".join(map(repr, graph.symbols)) or "none"
            raise InputError(f"the model has no size {name!r}", remedy=f"It has {known}")
        wanted[name] = int(size)
    changed = Model(graph.with_sizes(wanted), model.extras).with_seed(model.seed)
    return changed if wanted else model


class _DataOfType(Mapping[str, Callable[[str], Array]]):
    """``[type](name)`` as PyROOT writes a call of a template."""

    _TYPES = MappingProxyType({"int": "int32_t", "long": "int64_t", "unsigned char": "uint8_t"})

    def __init__(self, model: RModel) -> None:
        self._model = model

    def __getitem__(self, type_: str) -> Callable[[str], Array]:
        wanted = self._TYPES.get(type_, type_).removeprefix("std::")

        def data(name: str) -> Array:
            found = self._model._need(name)
            constants = self._model.model.graph.constants
            kind = texts.type_name(self._model._type(name))
            if found not in constants or kind != wanted:
                what = f"a {kind}" if found in constants else "computed, and"
                raise ModelError(
                    f"tensor {name!r} is {what} no initialized tensor of {wanted}",
                    place=self._model.GetName(),
                )
            return constants[found].reshape(-1)

        return data

    def __iter__(self) -> Any:
        return iter(("float", "double", "int32_t", "int64_t"))

    def __len__(self) -> int:
        return 4
