"""What is damaged, how, and what is then done with it: one `Kind` for each sort of file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz_files import (
    archives,
    hdf5,
    kept,
    protos,
    rootfiles,
    samples,
    targets,
    values,
    weightfiles,
    xmls,
)
from tests.fuzz_files.damage import damaged, reworded

__all__ = ["KINDS", "Kind", "Mutator", "Target"]

Mutator = Callable[[bytes, Random, Sequence[bytes]], bytes]
# Is given a folder to write to, the file's content, and the number of the mutant.
Target = Callable[[Path, bytes, int], object]


@dataclass(frozen=True)
class Kind:
    """A sort of file.

    ``seconds`` of this process's own time are allowed for one mutant, and ``gigabytes`` of address
    space. ``target`` makes ready what it needs and gives what is done with each mutant.
    ``is_native``: by C++, which needs a compiler. ``is_isolated``: `load` reads such files in
    another process; what ends this one is a finding only if it ends that of a user, too.
    """

    samples: Callable[[], list[bytes]]
    mutate: Mutator
    target: Callable[[], Target]
    seconds: float = 20.0
    gigabytes: float = 3.0
    is_native: bool = False
    is_isolated: bool = False


def _either(first: Mutator, second: Mutator, share: int = 3) -> Mutator:
    """One of them; the second one once in ``share`` times."""

    def mutate(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
        chosen = second if rng.randrange(share) == 0 else first
        return chosen(data, rng, others)

    return mutate


def _text(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    more = [rng.choice(others).decode("utf-8", "replace")] if others else []
    made = reworded(data.decode("utf-8", "replace"), rng, more)
    return made.encode("utf-8", "surrogatepass")


def _beside(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    first, second = samples.apart(data)
    if rng.randrange(8) == 0:
        return samples.joined(first, damaged(second, rng, ()))
    return samples.joined(protos.mutated(first, rng, [samples.apart(o)[0] for o in others]), second)


def _graph_text(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    text, constants = samples.apart(data)
    more = [samples.apart(rng.choice(others))[0]] if others else []
    return samples.joined((damaged if rng.randrange(6) == 0 else _text)(text, rng, more), constants)


def _ubjson(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    tree = rng.choice(samples.xgboost_trees())
    return values.ubjson(values.changed(values.copied(tree), rng, samples.xgboost_trees()), rng)


def _keras(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    return archives.mutated(data, rng, others, {"h5": hdf5.mutated})


def _xgboost_json() -> list[bytes]:
    return [json.dumps(tree).encode() for tree in samples.xgboost_trees()]


def _xgboost_ubjson() -> list[bytes]:
    return [values.ubjson(tree, None) for tree in samples.xgboost_trees()]


KINDS: dict[str, Kind] = {
    "onnx": Kind(samples.onnx_models, _either(protos.mutated, damaged), targets.onnx),
    "onnx-domains": Kind(samples.onnx_domains, _either(protos.mutated, damaged, 6), targets.onnx),
    "onnx-external": Kind(samples.onnx_beside, _either(_beside, damaged, 6), targets.onnx_beside),
    "keras": Kind(samples.keras_files, _keras, targets.keras, 3.0, is_isolated=True),
    "h5": Kind(samples.h5_files, hdf5.mutated, targets.h5, 0.5, is_isolated=True),
    "torchscript": Kind(samples.scripts, archives.mutated, targets.torch_files),
    "pt2": Kind(samples.programs, archives.mutated, targets.torch_files),
    "pickle": Kind(
        samples.pickles, _either(archives.mutated_pickle, archives.mutated), targets.torch_files
    ),
    "xgboost-json": Kind(_xgboost_json, _either(values.mutated_json, _text), targets.xgboost),
    "xgboost-ubj": Kind(_xgboost_ubjson, _either(_ubjson, damaged), targets.xgboost),
    "lightgbm": Kind(samples.lightgbm_files, _either(_text, damaged), targets.lightgbm),
    "tmva": Kind(xmls.samples, _either(_either(xmls.mutated, _text, 4), damaged, 8), targets.tmva),
    "lwtnn": Kind(samples.lwtnn_networks, _either(values.mutated_json, _text, 5), targets.lwtnn),
    "root": Kind(samples.short_files, rootfiles.mutated, targets.root),
    "root-ntuple": Kind(samples.ntuple_files, damaged, targets.root),
    "trust": Kind(samples.root_files, rootfiles.mutated, targets.trust),
    "normalization": Kind(
        samples.normalizations, _either(values.mutated_json, damaged, 5), targets.normalization
    ),
    "reader": Kind(samples.root_readable, rootfiles.mutated, targets.reader, is_native=True),
    "cache": Kind(kept.kept, kept.mutated, kept.target),
    "weights": Kind(samples.marked_weights, weightfiles.mutated, targets.weights, is_native=True),
    "embedded": Kind(
        samples.marked_texts, weightfiles.mutated_text, targets.embedded, is_native=True
    ),
    "text": Kind(samples.texts, _graph_text, targets.text),
}
