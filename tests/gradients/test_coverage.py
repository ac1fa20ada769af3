"""Which operators have no derivative, in all networks that other tests read: none that is not said.

An operator that is refused here without standing in ``STATED`` needs a method `pullback`, or a line
there and in docs/guide/gradients.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sofie_rdf
from sofie_rdf.bench.models import BUILT_IN
from sofie_rdf.errors import ModelError, SofieError, UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from sofie_rdf.gradients.reverse import problems
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.operator import REGISTRY
from tests.conformance import real
from tests.ops.test_contract import OPERATORS, Key, accepted_cases, bench_of

FILES = [file for file in real.files() if file.parent.name == "cms"]
# What is refused, and why it is no omission: in words of the page on gradients.
STATED = {
    "sofie.Trees": "Trees",
    "Loop": "`Loop` whose number of rounds",
}
# Of any operator on the way: the same, by how the refusal goes on.
ROUNDED, QUANTIZED = "is of numbers that are rounded to few bits", "quantized networks"


# The operators without a rule, by the reason; each other operator has one.
WITHOUT = {
    "It gives no floating-point numbers.": """
        Not BitwiseNot IsNaN IsInf sofie.TrueLike BitShift BitwiseAnd BitwiseOr BitwiseXor And Or
        Xor Equal Less LessOrEqual Greater GreaterOrEqual sofie.SizeOfAxis Shape Size Multinomial
        sofie.Labels sofie.PairIndices ArgMax ArgMin NonZero NonMaxSuppression ConvInteger
        MatMulInteger""",
    "No floating-point number goes into it that another one could depend on.": """
        sofie.KnownRange RandomNormal RandomUniform sofie.RowsOfRound HannWindow
        HammingWindow BlackmanWindow sofie.RuntimeHannWindow sofie.RuntimeHammingWindow
        sofie.RuntimeBlackmanWindow""",
    "Passes make it, which a graph goes through after it was differentiated.": """
        sofie.Gate sofie.Then sofie.SoftmaxAttention sofie.DenseLayers sofie.ConvLayer
        sofie.SmallConv sofie.ConvTransposeLayer sofie.WinogradConv sofie.PairTerms sofie.Symmetric
        sofie.ScatterAt sofie.PairIndices sofie.IntegerDense""",
    "It rounds numbers to few bits.": """
        QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearMatMul QLinearConv""",
    "It is constant but for steps: a decision, a table, or bits.": """
        BitCast sofie.Trees sofie.Lookup sofie.Categories sofie.NGrams sofie.PairwiseVotes Unique
        MaxRoiPool MelWeightMatrix sofie.RuntimeMelWeightMatrix""",
    "It goes on until it has converged.": "sofie.PairwiseProbabilities",
    "What says along which axes it goes, or how far, is computed.": """
        sofie.RuntimeReduceSum sofie.RuntimeReduceMean sofie.RuntimeReduceMax
        sofie.RuntimeReduceMin sofie.RuntimeReduceProd sofie.RuntimeReduceL1 sofie.RuntimeReduceL2
        sofie.RuntimeReduceSumSquare sofie.RuntimeReduceLogSum sofie.RuntimeReduceLogSumExp
        sofie.RuntimeCumSum sofie.RuntimeCumProd sofie.RuntimeCol2Im sofie.RuntimeResize
        sofie.RuntimeAffineGrid sofie.RuntimeDFT sofie.RuntimeSTFT""",
}
INTEGERS, NOTHING_IN, BY_PASSES = list(WITHOUT)[:3]


def _name(key: tuple[str, str]) -> str:
    return ".".join(filter(None, key))


def test_every_operator_has_a_rule_or_a_reason() -> None:
    own = {_name(k): c for k, c in REGISTRY.items() if c.__module__.startswith("sofie_rdf.")}
    without = {name for name, cls in own.items() if not cls.has_gradient()}
    assert without == {name for names in WITHOUT.values() for name in names.split()}


@pytest.mark.parametrize(
    "key",
    [k for k in OPERATORS if _name(k) in f"{WITHOUT[INTEGERS]} {WITHOUT[NOTHING_IN]}".split()],
    ids=".".join,
)
def test_what_has_no_floating_point_numbers_needs_no_rule(key: Key) -> None:
    """At all cases of the contract."""
    names = {reason: WITHOUT[reason].split() for reason in (INTEGERS, NOTHING_IN)}
    for dtype, case in accepted_cases(key):
        graph = bench_of("case", [(dtype, case)]).graph
        if _name(key) in names[INTEGERS]:
            assert not any(graph.types[o].dtype.is_float for o in graph.outputs)
        if _name(key) in names[NOTHING_IN]:
            gives = any(graph.types[o].dtype.is_float for o in graph.outputs)
            assert not gives or not any(graph.types[i].dtype.is_float for i in graph.inputs)


@pytest.mark.parametrize("name", WITHOUT[BY_PASSES].split())
def test_what_passes_make_is_made_by_nothing_else(name: str) -> None:
    package = Path(sofie_rdf.__file__).parent
    word = re.compile(rf"\b{name.rpartition('.')[2]}\(")
    for folder in ("frontends", "gradients", "compat"):
        for file in (package / folder).rglob("*.py"):
            assert not word.search(file.read_text()), file


def unstated(graph: Graph) -> list[str]:
    """The refusals that are not stated; each names an operator, a place, and a remedy."""
    found = []
    for error in problems(graph):
        assert isinstance(error, SofieError)
        assert error.remedy
        # Events that meet are no operator without a rule: the Jacobian is by all events.
        if isinstance(error, ModelError) and "events meet" in str(error):
            continue
        assert isinstance(error, UnsupportedOperator), error
        assert error.place
        stated = any(error.thing.startswith(f"{name} ") for name in STATED)
        if not stated and ROUNDED not in error.thing:
            found.append(str(error))
    return found


def test_what_is_refused_stands_on_the_page() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/guide/gradients.md").read_text()
    for word in (*STATED.values(), QUANTIZED):
        assert word in page


@pytest.mark.parametrize("name", BUILT_IN)
def test_networks_of_the_benchmark(name: str) -> None:
    assert unstated(BUILT_IN[name]().model.graph) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_networks_of_cms(file: Path) -> None:
    assert unstated(read(file)) == []


def _layers() -> Iterator[tuple[str, Graph]]:
    from tests.frontends.keras import test_layers
    from tests.frontends.keras.oracle import frontend, keras, quiet

    for name, case in test_layers.CASES.items():
        for seed in range(8):
            try:
                with quiet():
                    layer, shape = case(test_layers.Options(sum(map(ord, name)) + 1000 * seed))
                    model = keras.Sequential([keras.Input(shape), layer])
            except ValueError:
                continue  # Options that Keras itself refuses together.
            yield name, frontend.read(model)


def test_layers_of_keras() -> None:
    pytest.importorskip("keras")
    graphs = list(_layers())
    assert len(graphs) > 200
    assert {n: found for n, graph in graphs if (found := unstated(graph))} == {}


@pytest.mark.exhaustive
def test_modules_of_torch() -> None:
    pytest.importorskip("torch")
    from sofie_rdf.frontends.torch import reader
    from tests.frontends.torch import modules

    found = {}
    for name, make in modules.CASES.items():
        case = make()
        case.module.eval()
        graph = reader.read(case.module, example_inputs=case.example, dynamic=case.dynamic)
        found[name] = unstated(graph)
    assert {name: errors for name, errors in found.items() if errors} == {}
