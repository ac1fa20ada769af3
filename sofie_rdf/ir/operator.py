"""What an operator is, and the registry of all of them.

An operator is a frozen dataclass: its fields are its attributes, the parameters of `infer` are
its inputs, its docstring is its formula. Everything about it is in that one class, except the
loop, which is a C++ template in ``cling/sofie/kernels``.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from sofie_rdf.arguments import checked
from sofie_rdf.errors import TypeMismatch, UnsupportedOperator, nearest
from sofie_rdf.ir.dims import Dim, Size, Undecided, substitute, symbols_of
from sofie_rdf.ir.plugins import GROUP, load_plugins
from sofie_rdf.ir.printing import operator_text
from sofie_rdf.ir.types import Array, DType, Shape, TensorType

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    from sofie_rdf.gradients.values import Backward, Value
    from sofie_rdf.kernels.choice import Choice
else:  # For type checkers only; Python 3.10 lacks it.

    def dataclass_transform(**_: object) -> Any:
        return lambda function: function


__all__ = [
    "REGISTRY",
    "Argument",
    "Call",
    "Functor",
    "Launch",
    "Operand",
    "Operator",
    "Packed",
    "Sizes",
    "Struct",
    "Tensor",
    "Tolerance",
    "family",
    "flag",
    "from_input",
    "lookup",
    "operator",
    "require_same_dtype",
    "symbols_in",
    "with_sizes",
]


@dataclass(frozen=True, slots=True)
class Operand:
    """A value as an operator sees it while it is lowered."""

    name: str
    type: TensorType
    constant: bool = False
    # Of an output: nobody reads it.
    unread: bool = False


@dataclass(frozen=True, slots=True)
class Functor:
    """A C++ function object, e.g. ``sofie::Elu{0x1p+0}``."""

    cxx: str
    fields: tuple[float | int | bool | Functor, ...] = ()


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value handed to a kernel as a `View`, in this shape (None: its own).

    The kernel is told sizes other than 1 at run time if it is ``loose``: it is one for all of them.
    """

    operand: Operand
    shape: Shape | None = None
    loose: bool = False

    @property
    def extents(self) -> Shape:
        return self.operand.type.shape if self.shape is None else self.shape

    def is_static(self, size: Dim) -> bool:
        """Whether a size is part of the view's type."""
        return isinstance(size, int) and (size == 1 or not self.loose)


@dataclass(frozen=True, slots=True)
class Packed:
    """Constants that a kernel wants in a form of its own, made once when the weights are loaded.

    ``cxx`` is a C++ class with a constructor that takes a view of each source in turn. ``narrow``,
    if there is one, is a class that takes the first source in few bits (``{}`` stands for their C++
    type), of int8 with a scale for each position of its last axis behind it; and ``narrow_header``
    where that is. It reads fewer bytes, which pays where weights do not fit into a near cache.
    """

    cxx: str
    sources: tuple[Tensor, ...]
    narrow: str = ""
    narrow_header: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """A list of sizes handed to a kernel as a `sofie::Sizes<n>`: pads, strides, an axis each."""

    dims: tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Struct:
    """What belongs together, handed to a kernel as one C++ struct: tensors, or sizes of a layer.

    Its C++ type is a template that finds its arguments itself where it has tensors.
    """

    cxx: str
    fields: tuple[Sizes | Functor | Tensor, ...]


Argument: TypeAlias = Functor | Tensor | Packed | Sizes | Struct | Dim


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel. Of its tensors the first ``outputs`` are written, the others read."""

    kernel: str
    arguments: tuple[Argument, ...]
    outputs: int = 1
    # Where it is, if the headers of the operator do not have it.
    header: str = ""

    @property
    def flat(self) -> tuple[Argument, ...]:
        """The arguments, with the fields of a struct in its place."""
        parts = ((a.fields if isinstance(a, Struct) else (a,)) for a in self.arguments)
        return tuple(chain.from_iterable(parts))

    @property
    def written(self) -> tuple[Tensor, ...]:
        """What it writes: outputs, and workspaces."""
        return tuple(islice((a for a in self.flat if isinstance(a, Tensor)), self.outputs))


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel that a device is given: so many items, or work-groups, as ``count`` says.

    ``kernel`` is the C++ class of a function object, and ``parameters`` are what it is made of. Of
    the tensors the first ``outputs`` are written, the others read. ``by`` says which function
    enqueues it: ``items``, ``groups``, or ``gemm``, which is work-groups or a library.

    ``alone`` is what does the same with one work-item, and how often it is called: in a kernel for
    the whole network, each work-item calls it for parts of its own.
    """

    kernel: str
    parameters: tuple[Parameter, ...]
    tensors: tuple[Operand, ...]
    count: Dim
    header: str
    by: str = "items"
    outputs: int = 1
    alone: tuple[str, Dim] | None = None


def flag(value: object) -> str:
    """Whether there is something, in C++."""
    return "true" if value else "false"


# What authors of operators make: a wrong name is an error of ours, as for all functions.
for _made in (Functor, Tensor, Packed, Sizes, Struct, Call, Launch):
    _made.__init__ = checked(_made.__init__)  # type: ignore[method-assign]


Parameter: TypeAlias = "Functor | Sizes | tuple[Sizes, ...] | Dim | float"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a kernel may be from the reference evaluated in float64.

    |kernel - reference| <= ulp * (spacing of the output type at |reference|)
                            + terms * sqrt(n) * (spacing at the sum of magnitudes, where the
                                                 operator adds n numbers)
    """

    ulp: float = 0.0
    terms: float = 0.0


_OURS = "sofie_rdf."


def from_input(position: int, default: Any = dataclasses.MISSING) -> Any:
    """A field that ONNX passes as input number ``position`` and that must be a known value."""
    if default is dataclasses.MISSING:
        return field(metadata={"input": position})
    return field(default=default, metadata={"input": position})


O = TypeVar("O", bound=type)  # noqa: E741


@dataclass_transform(frozen_default=True, field_specifiers=(field, from_input))
def family(cls: O) -> O:
    """Class decorator for what several operators have in common.

    The class is a frozen dataclass whose base `Operator` initializes, compares and prints for all:
    that a method is written for each of hundreds of classes is what makes dataclasses slow. A class
    without fields of its own has those of its base as it is.
    """
    own = (
        not str(annotation).startswith("ClassVar[") for annotation in cls.__annotations__.values()
    )
    if any(own) or not dataclasses.is_dataclass(cls):
        dataclass(init=False, eq=False, repr=False)(cls)
    return cls


@family
class Operator:
    """Base of all operators. Subclasses are made with `@operator` and are immutable."""

    domain: ClassVar[str] = ""
    name: ClassVar[str] = ""
    header: ClassVar[str] = ""
    since: ClassVar[int] = 1
    tolerance: ClassVar[Tolerance] = Tolerance()
    # The kernel only moves elements (or converts them itself), so that it takes any element type.
    # All other kernels never see float16 and bfloat16: they are called with float32.
    moves: ClassVar[bool] = False
    # The data decide sizes: `infer` says UNKNOWN for these, and the kernel gets a `sofie::Owned`
    # for each output, which it makes as large as it must be.
    decides_sizes: ClassVar[bool] = False
    # `reference` works for object arrays of ints and symbolic sizes, too: shape arithmetic.
    takes_sizes: ClassVar[bool] = False
    # The form for graphs in which what is `from_input` here is computed: its inputs are ONNX's.
    runtime: ClassVar[type[Operator] | None] = None
    # What an event gives does not depend on the other events of the batch, where the batch is the
    # first axis of all that has it.
    is_rowwise: ClassVar[bool] = True
    # Equal nodes may give different results, and constant inputs give no constant.
    is_random: ClassVar[bool] = False

    # Its kernel writes all outputs: who asks for fewer gets the others as well.
    writes_all: ClassVar[bool] = False

    # It is constant but for steps, so that a derivative by its formula would say nothing.
    is_stepwise: ClassVar[bool] = False
    # Its integers stand for the numbers that it is given: a derivative of zero would say nothing.
    quantizes: ClassVar[bool] = False

    def __init__(self, *values: Any, **named: Any) -> None:
        fields = dataclasses.fields(self)
        given = {f.name: value for f, value in zip(fields, values, strict=False)}
        unknown = named.keys() - {f.name for f in fields[len(values) :]}
        if unknown or len(values) > len(fields):
            unwanted = ", ".join(sorted(unknown)) or f"{len(values)} values"
            raise TypeError(f"{type(self).__name__} takes no {unwanted}, or not twice")
        given.update(named)
        for f in fields:
            if f.name not in given and f.default is dataclasses.MISSING:
                raise TypeError(f"{type(self).__name__} needs {f.name}")
            self.__dict__[f.name] = given.get(f.name, f.default)
        self.__post_init__()

    def __post_init__(self) -> None:
        """Where attributes are looked at."""

    def __setattr__(self, name: str, _: object) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")

    def infer(self, *inputs: Any) -> TensorType | tuple[TensorType, ...]:
        """The type of each output. The parameters are the inputs; ``= None`` makes one optional."""
        raise NotImplementedError(f"{self.name}.infer")

    def reference(self, *inputs: Any) -> Array | tuple[Array, ...]:
        """The meaning in NumPy, in the dtype of the inputs."""
        raise NotImplementedError(f"{self.name}.reference")

    def on_sizes(self, *inputs: Any) -> Array:
        """`reference` for object arrays of symbolic sizes; raises where that is not possible."""
        if not self.takes_sizes:
            raise Undecided(f"{self.name} is no shape arithmetic")
        found: Array = np.asarray(self.reference(*inputs), dtype=object)
        return found

    def sizes_of(self, x: TensorType) -> Shape | Dim | None:  # noqa: ARG002
        """What an operator that reads only the shape of its input gives: sizes, or one of them."""
        return None

    def choice(
        self,
        inputs: Sequence[Operand | None],  # noqa: ARG002
        outputs: Sequence[Operand],  # noqa: ARG002
    ) -> Choice | None:
        """The kernel that `lower` calls, and why; None where there is no other."""
        return None

    def lower(self, inputs: Sequence[Operand | None], outputs: Sequence[Operand]) -> Call:
        """The kernel call that computes the outputs."""
        raise NotImplementedError(f"{self.name}.lower")

    def on_device(
        self,
        inputs: Sequence[Operand | None],  # noqa: ARG002
        outputs: Sequence[Operand],  # noqa: ARG002
    ) -> tuple[Launch, ...]:
        """The kernels that compute the outputs on a device, one after the other."""
        raise UnsupportedOperator(
            f"{type(self).full_name()} has no kernel for devices",
            remedy="Run the model on a CPU, or cut it: what is before and behind it may be a model "
            "of its own",
        )

    def device_workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:  # noqa: ARG002
        """Scratch memory of these kernels: `on_device` gets it behind the outputs."""
        return ()

    def formula(self, *inputs: Any) -> tuple[Value, ...]:
        """The outputs in terms of other operators: for gradients, and where there is no kernel."""
        raise NotImplementedError(f"{self.name}.formula")

    @classmethod
    def has_gradient(cls) -> bool:
        """Whether it has a rule for derivatives, or a formula that has them."""
        return cls.pullback is not Operator.pullback or cls._slopes_by_formula()

    @classmethod
    def _slopes_by_formula(cls) -> bool:
        return cls.formula is not Operator.formula and not cls.is_stepwise

    def pullback(self, back: Backward) -> Value | tuple[Value | None, ...] | None:
        """What each input adds to a derivative, from the derivatives by the outputs.

        None stands for nothing. What is repeated by broadcasting is summed up by whoever asks.
        """
        if self._slopes_by_formula():
            return back.by_formula(self.formula)
        raise UnsupportedOperator(
            f"{type(self).full_name()} has no gradient here",
            remedy="Differentiate outputs that are computed before it, or by inputs that do not "
            "go through it; an operator of your own needs a method `pullback`",
        )

    def workspace(self, inputs: Sequence[TensorType | None]) -> tuple[TensorType, ...]:  # noqa: ARG002
        """Scratch memory that the kernel needs: `lower` gets it behind the outputs."""
        return ()

    def requires(self, inputs: Sequence[TensorType | None]) -> tuple[tuple[Dim, Dim], ...]:  # noqa: ARG002
        """Pairs of sizes that must be equal, which only the run can tell."""
        return ()

    def multiply_adds(self, inputs: Sequence[TensorType | None]) -> Dim:  # noqa: ARG002
        """How many multiplications with addition it takes; 0 for what is no linear algebra."""
        return 0

    @property
    def is_alias(self) -> bool:
        """Whether the output is the input's memory with another shape."""
        return False

    @property
    def nested(self) -> tuple[Operator, ...]:
        """It, and the operators that are its attributes."""
        values = (getattr(self, f.name) for f in dataclasses.fields(self))
        listed = (v if isinstance(v, tuple) else (v,) for v in values)
        return (
            self,
            *(o for vs in listed for v in vs if isinstance(v, Operator) for o in v.nested),
        )

    @property
    def headers(self) -> tuple[str, ...]:
        """The C++ headers that it needs: its own and those of operators that are its attributes."""
        return tuple(o.header for o in self.nested)

    @classmethod
    def source(cls) -> Path | None:
        """The Python file of an operator that is not ours, beside which its header is."""
        file = getattr(sys.modules.get(cls.__module__), "__file__", None)
        return Path(file).resolve() if file and not cls.__module__.startswith(_OURS) else None

    @classmethod
    def full_name(cls) -> str:
        """``Relu``, ``physics.InvariantMass``: the name, after a domain that is not ONNX's."""
        return f"{cls.domain}.{cls.name}" if cls.domain else cls.name

    @property
    def bodies(self) -> Mapping[str, Any]:
        """The graphs among the attributes."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if hasattr(value, "with_sizes")}

    @classmethod
    @cache
    def arity(cls) -> tuple[int, int | None]:
        """The least and largest number of inputs; None for any number."""
        parameters = list(inspect.signature(cls.infer).parameters.values())[1:]
        if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
            return 1, None
        needed = [p for p in parameters if p.default is inspect.Parameter.empty]
        return len(needed), len(parameters)

    @classmethod
    def folded_inputs(cls) -> Mapping[int, str]:
        """ONNX inputs whose value must be known when the model is read, and their fields."""
        found = {f.metadata.get("input"): f.name for f in dataclasses.fields(cls)}
        return {position: name for position, name in found.items() if position is not None}

    def attributes(self) -> dict[str, Any]:
        """The fields that differ from their defaults, in order of declaration."""
        return {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.default is dataclasses.MISSING or getattr(self, f.name) != f.default
        }

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        values = (f"{f.name}={getattr(self, f.name)!r}" for f in dataclasses.fields(self))
        return f"{type(self).__name__}({', '.join(values)})"

    def __str__(self) -> str:
        return operator_text(self)

    def as_value(self) -> str:
        """As the attribute of another operator: its text."""
        return operator_text(self)


def symbols_in(op: Operator) -> frozenset[str]:
    """The named sizes among the attributes of an operator."""
    values = (getattr(op, f.name) for f in dataclasses.fields(op))
    listed = (v if isinstance(v, tuple) else (v,) for v in values)
    return frozenset().union(*(symbols_of(d) for ds in listed for d in ds if isinstance(d, Size)))


def with_sizes(op: Operator, values: Mapping[str, Dim]) -> Operator:
    """The operator with other sizes for the named ones among its attributes."""
    changed: dict[str, Any] = {}
    for f in dataclasses.fields(op):
        value = getattr(op, f.name)
        if isinstance(value, Size):
            changed[f.name] = substitute(value, values)
        elif hasattr(value, "with_sizes"):  # A graph.
            changed[f.name] = value.with_sizes(values)
        elif isinstance(value, tuple) and any(isinstance(d, Size) for d in value):
            changed[f.name] = tuple(
                substitute(d, values) if isinstance(d, Size) else d for d in value
            )
    return dataclasses.replace(op, **changed) if changed else op


REGISTRY: dict[tuple[str, str], type[Operator]] = {}

T = TypeVar("T", bound=type[Operator])


@dataclass_transform(frozen_default=True, field_specifiers=(field, from_input))
@checked
def operator(
    *,
    header: str = "",
    domain: str = "",
    since: int = 1,
    ulp: float = 0.0,
    terms: float = 0.0,
) -> Callable[[T], T]:
    """Class decorator: make it a frozen dataclass and register it under its own name.

    ``header`` is the C++ header with its kernel or functor; ``domain`` ONNX's operator set;
    ``since`` the version of that set whose form it has; ``ulp`` and ``terms`` its `Tolerance`.
    """

    def register(cls: T) -> T:
        family(cls)
        cls.name, cls.domain, cls.since = cls.__name__, domain, since
        cls.header = header or cls.header
        cls.tolerance = Tolerance(ulp, terms) if ulp or terms else cls.tolerance
        if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):
            raise TypeError(f"operator {cls.__name__} needs a docstring with its formula")
        key = (domain, cls.__name__)
        if key in REGISTRY and REGISTRY[key].__qualname__ != cls.__qualname__:
            raise TypeError(f"operator {cls.__name__} is registered already")
        REGISTRY[key] = cls
        return cls

    return register


def lookup(domain: str, name: str) -> type[Operator]:
    """The operator of that name; `UnsupportedOperator` with near names otherwise."""
    domain = "" if domain == "ai.onnx" else domain
    failed = () if (domain, name) in REGISTRY else load_plugins()
    if (domain, name) in REGISTRY:
        return REGISTRY[domain, name]
    full = f"{domain}.{name}" if domain else name
    remedy = nearest(name, (n for d, n in REGISTRY if d == domain)) or _registering(domain, name)
    reasons = (*failed, remedy) if remedy else failed
    raise UnsupportedOperator(f"operator {full} is not supported", remedy=". ".join(reasons))


def _registering(domain: str, name: str) -> str:
    """What to do about an operator that may be somebody's own."""
    if domain.startswith(("com.microsoft", "com.ms.internal")):
        return _of_onnxruntime(domain, name)
    if domain in ("", "sofie") or domain.startswith("ai.onnx."):
        return ""
    return (
        "If it is an operator of your own, import the Python module that registers it with "
        f"@sofie_rdf.operator(domain={domain!r}), or install the package whose entry point "
        f"{GROUP!r} names that module"
    )


def _of_onnxruntime(domain: str, name: str) -> str:
    if domain != "com.microsoft":
        return (
            "onnxruntime writes it for one kind of processor: save the model with the "
            "graph_optimization_level ORT_ENABLE_EXTENDED or a lower one"
        )
    if name.startswith("Q"):
        return (
            "It is what onnxruntime's quantize_static writes as QOperator: quantize the model "
            "with quant_format=QuantFormat.QDQ"
        )
    if name.startswith("DynamicQuantize"):
        return (
            "It is what onnxruntime's quantize_dynamic writes: leave that layer as it was, "
            "with op_types_to_quantize"
        )
    return "It is onnxruntime's own: export the model without onnxruntime's optimizations"


def require_same_dtype(*types: TensorType) -> DType:
    """The one element type that all have; `TypeMismatch` otherwise."""
    dtypes = {t.dtype for t in types}
    if len(dtypes) != 1:
        raise TypeMismatch(f"mixes {' and '.join(sorted(map(str, dtypes)))}")
    return dtypes.pop()
