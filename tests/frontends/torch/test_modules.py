"""`from_torch`: modules of all kinds, beside torch; and what it leaves as it was."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sofie_rdf as sofie
from sofie_rdf.frontends.torch import reader as frontend
from sofie_rdf.frontends.torch.calls import quiet
from sofie_rdf.ir.graph import Graph
from sofie_rdf.reference import evaluate
from tests.choice import some_of
from tests.frontends.torch import modules
from tests.frontends.torch.oracle import answers, assert_same, deviation

# `make conformance` has all of them; an export takes a second.
HERE = (
    "mlp",
    "lstm_of_any_length",
    "encoder_with_mask",
    "particlenet",
    "spline",
    "float16",
    "unet",
)


def graph_of(case: modules.Case, **options: Any) -> Graph:
    return frontend.read(case.module, example_inputs=case.example, dynamic=case.dynamic, **options)


@pytest.mark.parametrize("name", some_of(HERE, ["float16", "lstm_of_any_length"]))
def test_networks(name: str) -> None:
    case = modules.CASES[name]()
    assert_same(graph_of(case), case.module, case.example)


def test_a_model_that_runs() -> None:
    pytest.importorskip("ROOT")
    case = modules.mlp()
    model = sofie.from_torch(case.module, case.example[:1], name="classifier")
    assert model.name == "classifier"
    assert {n: str(t) for n, t in model.inputs.items()} == {"input": "float32[N, 7]"}
    assert {n: str(t) for n, t in model.outputs.items()} == {"output": "float32[N, 2]"}
    for rows in (1, 3, 17):
        x = torch.randn(rows, 7)
        (wanted,) = answers(case.module, x)
        assert deviation(model(x.numpy()), wanted) < 1e-6
    origin = model.graph.provenance
    assert origin["source"] == "Sequential in memory"
    assert origin["producer"] == f"PyTorch {torch.__version__} by torch.export"


def test_names_survive() -> None:
    case = modules.nested()
    graph = graph_of(case)
    assert_same(graph, case.module, case.example)
    assert graph.inputs == ("x", "more_0", "more_1_k", "last")
    assert graph.outputs == ("a", "b_0", "b_2")
    assert [str(graph.types[i]) for i in graph.inputs] == [
        *("float32[N, 7]", "float32[N, 3]", "float32[N, 3]", "float32[N, 1]")
    ]


def test_what_the_user_has_stays_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.9), nn.Linear(4, 1))
    module[1].eval()
    module[0].weight.requires_grad_(False)
    modes = [m.training for m in module.modules()]
    before = {name: t.clone() for name, t in module.state_dict().items()}
    state, x = torch.get_rng_state(), torch.randn(1, 3, requires_grad=True)
    state = torch.get_rng_state()
    filters, levels = list(warnings.filters), logging.getLogger("torch.onnx").level
    graph_of(modules.Case(module, x))
    assert [m.training for m in module.modules()] == modes
    assert [p.requires_grad for p in module.parameters()] == [False, *[True] * 5]
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert warnings.filters == filters
    assert logging.getLogger("torch.onnx").level == levels
    assert x.shape == (1, 3)
    assert x.requires_grad
    assert capfd.readouterr() == ("", "")


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x + 1


def test_buffers_that_forward_changes_are_put_back() -> None:
    module = Counting()
    graph_of(modules.Case(module, torch.ones(2, 2)))
    assert module.calls.item() == 0


def test_in_threads() -> None:
    found: list[Graph] = []
    threads = [threading.Thread(target=lambda: found.append(graph_of(modules.mlp()))) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2


# Control flow -------------------------------------------------------------------------------------


def test_branches_and_loops_are_scripted(capfd: pytest.CaptureFixture[str]) -> None:
    """What torch.export refuses as it depends on numbers: it prints a graph then."""
    sign = modules.sign()
    graph = graph_of(sign)
    assert capfd.readouterr() == ("", "")
    for x in (torch.ones(3, 2), -torch.ones(3, 2)):
        assert_same(graph, sign.module, x)
    loop = modules.loop()
    graph = graph_of(loop)
    for rounds in (0, 1, 5):
        assert_same(graph, loop.module, (torch.randn(2, 2), torch.tensor(rounds)))


class Baked(nn.Module):
    """Python looks at the size, and at numbers behind torch's back."""

    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.asarray(x.detach().sum()))


def traced(module: nn.Module, x: Tensor) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: torch.jit.ScriptModule = torch.jit.trace(module, x)
    return made


class Unstable(nn.Module):
    """Python keeps a number between calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x * self.seen


class BySize(nn.Module):
    """Another formula for few rows, as torch.export does not see."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting() and x.shape[0] > 4:
            return x * 2
        return x * 3


class ByNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_exporting() and float(x.sum()) < 0:
            return x * 2
        return x * 3


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (BySize(), r"differs from torch by .* with N = "),
        (ByNumber(), "differs from torch by .* with the negative of the example inputs"),
        (Unstable(), "gives other numbers each time"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_what_was_true_for_the_example_alone_is_refused(module: nn.Module, words: str) -> None:
    with pytest.raises(sofie.ModelError, match=words):
        graph_of(modules.Case(module, torch.ones(3, 2)))


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(3, -1).sum(1)


def test_sizes_that_cannot_be_open() -> None:
    with pytest.raises(sofie.ModelError, match=r"forward fails with N = 2.*dynamic=\{\}"):
        graph_of(modules.Case(FixedBatch(), torch.ones(1, 3)))
    graph = graph_of(modules.Case(FixedBatch(), torch.ones(1, 3), {}))
    assert str(graph.types["x"]) == "float32[1, 3]"


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(3) * 2


# Graphs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "edges"), [(5, 9), (1, 1), (7, 0), (1, 0), (20, 40)])
def test_message_passing(message_passing: Graph, nodes: int, edges: int) -> None:
    case = modules.messages()
    state = torch.Generator().manual_seed(3)
    given = (torch.randn(nodes, 3), torch.randint(0, nodes, (2, edges), generator=state))
    case.module.load_state_dict(WEIGHTS)
    assert_same(message_passing, case.module, given)


WEIGHTS: dict[str, Tensor] = {}


@pytest.fixture(scope="module")
def message_passing() -> Graph:
    case = modules.messages()
    WEIGHTS.update(case.module.state_dict())
    return graph_of(case)


def test_message_passing_compiled(message_passing: Graph) -> None:
    pytest.importorskip("ROOT")
    model = sofie.Model(message_passing)
    for nodes, edges in ((4, 6), (3, 0), (9, 30)):
        x = np.random.default_rng(1).normal(size=(nodes, 3)).astype(np.float32)
        index = np.random.default_rng(2).integers(0, nodes, (2, edges))
        feeds = {"x": x, "edge_index": index}
        (wanted,) = evaluate(message_passing, feeds).values()
        assert deviation(np.asarray(model(feeds)), wanted) < 1e-6


# What is not there --------------------------------------------------------------------------------


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.qr(x)[0]


def test_functions_that_the_exporter_does_not_have_are_named() -> None:
    with pytest.raises(sofie.UnsupportedOperator, match=r"Unknown: .*aten[.:]+linalg_qr"):
        graph_of(modules.Case(Unknown(), torch.ones(3, 2)))
    (problem,) = sofie.check(Unknown(), example_inputs=torch.ones(3, 2))
    assert "linalg_qr" in str(problem)


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x)


class Count(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        return x, x.shape[0]


@pytest.mark.parametrize(
    ("module", "words"),
    [(Complex(), "complex numbers"), (Count(), "gives a int"), (nn.ParameterDict(), "forward")],
)
def test_what_is_no_tensor_of_ours(module: nn.Module, words: str) -> None:
    with pytest.raises(sofie.SofieError, match=words):
        graph_of(modules.Case(module, torch.ones(3, 2)))


def test_wrapped_modules() -> None:
    module = nn.Linear(3, 2)
    with quiet():
        compiled = torch.compile(module)
    for wrapped in (compiled, nn.DataParallel(module)):
        with torch.no_grad():
            graph = graph_of(modules.Case(wrapped, torch.ones(2, 3)))
        assert graph.inputs == ("input",)
        assert graph.name == "Linear"


def test_check_of_a_module() -> None:
    case = modules.mlp()
    assert sofie.check(case.module, example_inputs=case.example) == []


def test_projections_are_refused() -> None:
    module = modules.Recurrent(nn.LSTM, proj_size=3)
    with pytest.raises(sofie.UnsupportedOperator, match="LSTM with proj_size"):
        graph_of(modules.Case(module, torch.ones(3, 2, 5), [{1: "N"}]))


def test_training_mode_in_an_exported_program() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    program = torch.export.export(module, (torch.ones(4, 3),), strict=False)
    with pytest.raises(sofie.UnsupportedFormat, match="was exported in training mode"):
        frontend.read(program)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (nn.Linear(2, 1), {}, "does not say what its inputs are"),
        (nn.Linear(2, 1), {"example_inputs": 3}, "example_inputs is int"),
        (nn.Linear(2, 1), {"example_inputs": torch.ones(2, 3)}, "forward fails for the example"),
        (nn.Linear(2, 1), {"example_inputs": (1, 2, 3)}, "do not fit forward"),
        (nn.Linear(2, 1), {"example_inputs": {"y": 1}}, "do not fit forward"),
        (nn.Linear(2, 1).parameters(), {"example_inputs": 1}, "is no PyTorch model"),
    ],
)
def test_wrong_arguments(source: Any, options: dict[str, Any], words: str) -> None:
    with pytest.raises(sofie.InputError, match=words):
        sofie.from_torch(source, options.get("example_inputs"))


class Edges(nn.Module):
    """Sums over the edges of a graph, as PyTorch Geometric stores them: [2, number of edges]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Any, edge_index: Any, weight: Any) -> Any:
        """The sum over what comes into each node."""
        h = self.layer(x)
        return torch.zeros_like(h).index_add(0, edge_index[1], h[edge_index[0]] * weight)


@pytest.mark.parametrize("nodes", some_of([5, 2], [2]))
def test_edges_are_no_batch(nodes: int) -> None:
    module, edges = Edges(), torch.tensor([[0, 1, 0, 1, 1, 0, 0], [1, 0, 1, 0, 0, 1, 1]])
    model = sofie.from_torch(module, (torch.randn(nodes, 3), edges, torch.randn(7, 1)))
    assert [str(t) for t in model.inputs.values()] == [
        "float32[N, 3]",
        "int64[2, edge_index_1]",
        "float32[edge_index_1, 1]",
    ]


class Named(nn.Module):
    """Whose author calls it something else than self."""

    def __init__(s) -> None:  # noqa: N805
        super().__init__()
        s.layer = nn.Linear(3, 4)

    def forward(s, x: Tensor) -> Tensor:  # noqa: N805
        """One layer."""
        y: Tensor = s.layer(x)
        return y


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_whose_self_has_another_name() -> None:
    model = sofie.from_torch(torch.jit.script(Named()), torch.zeros(2, 3))
    assert list(model.inputs) == ["x"]


class Angle(nn.Module):
    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return torch.atan2(y, x)


@pytest.mark.parametrize("write", [lambda m: m, torch.jit.script])
def test_angles_on_the_axes(write: Any) -> None:
    """Both exporters gave -pi at (0, -1); the older one gave NaN at (0, 0), as padded sets have."""
    places = torch.tensor([0.0, -0.0, 1.0, -1.0, 3.0, np.inf, -np.inf])
    y, x = places.repeat_interleave(len(places)), places.repeat(len(places))
    with quiet():
        module = write(Angle())
    graph = frontend.read(module, example_inputs=(torch.randn(4), torch.randn(4)))
    (found,) = evaluate(
        graph, dict(zip(graph.inputs, (y.numpy(), x.numpy()), strict=True))
    ).values()
    np.testing.assert_allclose(found, torch.atan2(y, x).numpy(), rtol=1e-6, atol=0)
