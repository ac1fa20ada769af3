"""``python -m tests.conformance.torch_models [--pypi]``: PyTorch, beside torch.

All networks of tests/frontends/torch as modules, as .pt2 files, traced and scripted; then layers of
torch.nn and functions of torch with random options and shapes. The graph is evaluated with NumPy
for rows that were not in the example. ``--pypi`` fetches coffea's ParticleNet first, which runs
compiled, too, and networks of weaver, torchdiffeq and nflows. What is refused is listed;
what differs from torch has failed. The table is also in ``out/torch.md``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sofie_rdf as sofie
from sofie_rdf.errors import SofieError
from sofie_rdf.frontends.common.agreement import GROWTH, rounding
from sofie_rdf.frontends.torch import reader as frontend
from sofie_rdf.ir.graph import Graph
from sofie_rdf.reference import evaluate
from tests.frontends.torch import layers, modules
from tests.frontends.torch.oracle import LIMITS, answers, deviation, feeds

OUT = Path(__file__).resolve().parents[2] / "out"
# Layers of each family, with other options each.
EACH = 12
# What a deviation is that needs looking at, relative to the largest number of an output.
LIMIT = 1e-5


@dataclass
class Row:
    """What came out for a group of modules."""

    name: str
    tried: int = 0
    same: int = 0
    worst: float = 0.0
    seconds: float = 0.0
    refused: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def compare(
    row: Row, label: str, read: Callable[[], Graph], module: Any, calls: Sequence[Any]
) -> None:
    """Read a module and compare it with torch for all calls that torch takes."""
    row.tried += 1
    try:
        graph = read()
    except SofieError as error:
        row.refused.append(f"{label}: {type(error).__name__}: {error}"[:300])
        return
    for call in calls:
        try:
            wanted = answers(module, call)
        except Exception:
            continue
        given = feeds(graph, module, call)
        found = evaluate(graph, given)
        for (name, ours), theirs in zip(found.items(), wanted, strict=True):
            now = deviation(ours, theirs)
            row.worst = max(row.worst, now if theirs.dtype == np.float32 else 0.0)
            if now > max(LIMIT, LIMITS.get(theirs.dtype.name, 0.0)):
                # A difference of almost equal numbers, say: what the last bits of all values do.
                noise = rounding(graph, given, found)[name] / float(np.abs(theirs).max())
                if now <= GROWTH * noise:
                    continue
                row.wrong.append(f"{label}: differs by {now:.1e}")
                return
    row.same += 1


# Networks -----------------------------------------------------------------------------------------


def networks() -> Iterator[Row]:
    for kind, read in (("module", _module), ("traced", _traced), ("scripted", _scripted)):
        row = Row(kind)
        for name, make in modules.CASES.items():
            case = make()
            case.module.eval()
            compare(row, name, lambda c=case, r=read: r(c), case.module, [case.example])  # type: ignore[misc]
        yield row


def _module(case: modules.Case) -> Graph:
    return frontend.read(case.module, example_inputs=case.example, dynamic=case.dynamic)


def _traced(case: modules.Case) -> Graph:
    given: dict[str, Any] = {"example_inputs": case.example}
    if isinstance(case.example, dict):
        given = {"example_kwarg_inputs": case.example}
    return _from_file(
        case, lambda: torch.jit.trace(case.module, strict=False, check_trace=False, **given)
    )


def _scripted(case: modules.Case) -> Graph:
    return _from_file(case, lambda: torch.jit.script(case.module))


def _from_file(case: modules.Case, make: Callable[[], Any]) -> Graph:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "m.pt")
        try:
            make().save(str(path))
        except Exception as error:
            raise SofieError(f"torch itself does not: {str(error)[:80]}") from None
        options = {"example_inputs": case.example, "dynamic": case.dynamic}
        return frontend.read(path, **options)


# Layers -------------------------------------------------------------------------------------------


def families() -> Iterator[Row]:
    for family in layers.FAMILIES:
        row = Row(family)
        for seed in range(layers.FUNCTIONS if family == "function" else EACH):
            torch.manual_seed(seed)
            if family == "function":
                case = layers.function(layers.Random(seed), seed)
            else:
                case = layers.layer(family, seed)
            case.module.eval()
            try:
                answers(case.module, case.example)
            except Exception:
                continue  # Options that torch does not take.
            label = f"{family} {seed} {' '.join(str(case.module).split())[:90]}"
            calls = [case.example, *(layers.more(case, rows, rows) for rows in (1, 2, 7))]
            compare(row, label, lambda c=case: _module(c), case.module, calls)  # type: ignore[misc]
        yield row


# Coffea's ParticleNet -----------------------------------------------------------------------------


def fetched() -> Path:
    """The TorchScript file in coffea's source distribution, which is fetched if it is not there."""
    place = OUT / "pypi"
    if not any(place.glob("coffea-*.tar.gz")):
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
        command = [*pip, "--no-deps", "--no-binary", "coffea", "-d", str(place), "coffea"]
        subprocess.run(command, check=True)
    with tarfile.open(next(place.glob("coffea-*.tar.gz"))) as archive:
        member = next(m for m in archive if m.name.endswith("pn_test/1/model.pt"))
        content = archive.extractfile(member)
        assert content
        path = place / "coffea_particlenet.pt"
        path.write_bytes(content.read())
    return path


def particlenet(path: Path) -> Row:
    """As it is, with numbers of jets and particles that were not in the example, compiled."""
    row, script = Row("coffea's ParticleNet"), torch.jit.load(path, map_location="cpu")
    model = sofie.load(path, input_shapes=["N,2,P", "N,5,P", "N,1,P"])
    for jets, particles in ((1, 20), (3, 100), (2, 37), (1, 64)):
        row.tried += 1
        state = torch.Generator().manual_seed(particles)
        given = [torch.randn(jets, n, particles, generator=state) for n in (2, 5)]
        mask = torch.ones(jets, 1, particles)
        mask[0, :, particles - 3 :] = 0
        with torch.no_grad():
            wanted = script(*given, mask).numpy()
        arrays = [t.numpy() for t in (*given, mask)]
        now = deviation(np.asarray(model(*arrays)), wanted)
        row.worst = max(row.worst, now)
        if now > LIMIT:
            row.wrong.append(f"{jets} jets of {particles} particles: differs by {now:.1e}")
        else:
            row.same += 1
    return row


# Networks of other packages -----------------------------------------------------------------------

PACKAGES = ("weaver-core==0.5.3", "torchdiffeq==0.2.5", "nflows==0.14")


def jets(rows: int, length: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Features, momenta and mask of padded jets, the last one of a particle alone."""
    state = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 7, length, generator=state)
    v = torch.randn(rows, 4, length, generator=state)
    v[:, 3] = v[:, :3].norm(dim=1) + v[:, 3].abs()
    lengths = torch.randint(1, length + 1, (rows, 1, 1), generator=state)
    lengths[-1] = 1
    mask = (torch.arange(length) < lengths).float()
    return x * mask, v * mask, mask


class Integrated(torch.nn.Module):
    """An equation that is solved with steps of one size."""

    def __init__(self, method: str) -> None:
        super().__init__()
        layers = torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
        self.inner, self.method = torch.nn.Sequential(*layers), method

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        from torchdiffeq import odeint

        times = torch.linspace(0, 1, 5)
        found: torch.Tensor = odeint(lambda _, y: self.inner(y), x, times, method=self.method)
        return found[-1]


class LogDensity(torch.nn.Module):
    """What a flow says of the density of a row."""

    def __init__(self, flow: Any) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.flow.log_prob(x)
        return found


def _flows() -> Iterator[tuple[str, torch.nn.Module]]:
    from nflows import distributions, flows, transforms

    spline = transforms.MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        features=3, hidden_features=8, num_bins=4, tails="linear", tail_bound=3.0
    )
    yield "nflows' splines", flows.Flow(spline, distributions.StandardNormal([3]))


def packages() -> Iterator[Row]:
    """Networks that are installed in a folder of their own."""
    place = OUT / "pypi" / "torch"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    subprocess.run([*pip, "--upgrade", "--no-deps", "--target", str(place), *PACKAGES], check=True)
    sys.path.append(str(place))
    from weaver.nn.model.ParticleTransformer import ParticleTransformer

    small = {"embed_dims": (16, 32, 16), "pair_embed_dims": (8, 8), "num_heads": 2, "num_layers": 2}
    axes = {"x": {0: "N", 2: "P"}, "v": {0: "N", 2: "P"}, "mask": {0: "N", 2: "P"}}
    row = Row("other packages")
    for version in (1, 2, 3, 3.6):
        tagger = ParticleTransformer(7, num_classes=5, version=version, **small).eval()
        case = modules.Case(tagger, jets(3, 10, 1), axes)
        calls = [jets(3, 10, 2), jets(5, 16, 3), jets(1, 1, 4)]
        compare(row, f"weaver {version}", lambda c=case: _module(c), tagger, calls)  # type: ignore[misc]
    numbers = [torch.randn(rows, 3) for rows in (1, 4, 9)]
    integrated = ((m, Integrated(m)) for m in ("rk4", "midpoint", "euler"))
    densities = ((name, LogDensity(flow)) for name, flow in _flows())
    for name, module in (*integrated, *densities):
        case = modules.Case(module.eval(), numbers[1])
        compare(row, name, lambda c=case: _module(c), module, numbers)  # type: ignore[misc]
    yield row


# The table ----------------------------------------------------------------------------------------


def lines(rows: Sequence[Row]) -> Iterator[str]:
    yield "| modules | tried | as torch | refused | differ | largest deviation | seconds |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for r in rows:
        counts = f"{r.tried} | {r.same} | {len(r.refused)} | {len(r.wrong)}"
        yield f"| {r.name} | {counts} | {r.worst:.1e} | {r.seconds:.0f} |"
    yield ""
    for r in rows:
        yield from (f"* {r.name}, refused: {text}" for text in r.refused)
        yield from (f"* {r.name}, DIFFERS: {text}" for text in r.wrong)


def main(arguments: Sequence[str]) -> int:
    """0 where nothing differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.torch_models")
    parser.add_argument("part", nargs="?", default="", help="only groups with this in their names")
    parser.add_argument("--pypi", action="store_true", help="networks of packages on PyPI as well")
    given = parser.parse_args(arguments)
    rows: list[Row] = []
    start = time.monotonic()
    sources = [networks, families]
    if given.pypi:
        sources += [lambda: iter([particlenet(fetched())]), packages]
    for source in sources:
        for row in source():
            row.seconds, start = time.monotonic() - start, time.monotonic()
            rows.append(row)
            sys.stdout.write(f"{row.name}: {row.same} of {row.tried}, {row.seconds:.0f} s\n")
            sys.stdout.flush()
    text = "\n".join(lines([r for r in rows if given.part in r.name]))
    OUT.mkdir(exist_ok=True)
    (OUT / "torch.md").write_text(text + "\n")
    sys.stdout.write(f"\n{text}\n")
    return int(any(r.wrong for r in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
