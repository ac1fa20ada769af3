"""Weight files of MLPs, and transformations, as TMVA writes them, with random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Xml

import numpy as np

from sofie_rdf.ir.types import Array

__all__ = ["NAMES", "mlp", "transformation"]

NAMES = ("var1+var2", "pt", "eta", "mass")


def text(numbers: Array | Sequence[float]) -> str:
    return " ".join(f"{n:.15e}" for n in np.ravel(np.asarray(numbers)))


def selection(names: Sequence[str], targets: int = 0) -> Xml.Element:
    made = Xml.Element("Selection")
    for way in ("Input", "Output"):
        listed = Xml.SubElement(made, way, {f"N{way}s": str(len(names) + targets)})
        for name in names:
            Xml.SubElement(listed, way, Type="Variable", Label=name, Expression=name)
        for target in range(targets):
            label = f"t{target}"
            Xml.SubElement(listed, way, Type="Target", Label=label, Expression=label)
    return made


def transformation(
    kind: str, random: np.random.Generator, names: Sequence[str] = NAMES, targets: int = 0
) -> Xml.Element:
    """One of Normalize, Decorrelation, PCA, Gauss and Flat, of these variables."""
    made = Xml.Element("Transform", Name="Gauss" if kind == "Flat" else kind)
    made.append(selection(names, targets))
    FILLED[kind](made, random, len(names), targets)
    return made


def normalize(made: Xml.Element, random: np.random.Generator, count: int, targets: int) -> None:
    for index in range(1 if targets else 3):  # Two classes, and both together, which counts.
        ranges = Xml.SubElement(made, "Class", ClassIndex=str(index))
        ranges = Xml.SubElement(ranges, "Ranges")
        for i in range(count + targets):
            low, high = -3 - random.random(), 3 + random.random()
            Xml.SubElement(ranges, "Range", Index=str(i), Min=f"{low:.16e}", Max=f"{high:.16e}")


def decorrelation(made: Xml.Element, random: np.random.Generator, count: int, _: int) -> None:
    for _index in range(3):
        found = Xml.SubElement(made, "Matrix", Rows=str(count), Columns=str(count))
        found.text = f"\n{text(random.normal(size=(count, count)))}\n"


def pca(made: Xml.Element, random: np.random.Generator, count: int, _: int) -> None:
    for index in range(3):
        found = Xml.SubElement(made, "Statistics", ClassIndex=str(index), NRows=str(count))
        found.text = text(random.normal(size=count))
    for index in range(3):
        sizes = {"NRows": str(count), "NCols": str(count)}
        found = Xml.SubElement(made, "Eigenvectors", sizes, ClassIndex=str(index))
        found.text = text(random.normal(size=(count, count)))


def gauss(made: Xml.Element, random: np.random.Generator, count: int, _: int) -> None:
    made.set("FlatOrGauss", "Gauss")
    for variable in range(count):
        inner = Xml.SubElement(made, "Variable", VarIndex=str(variable))
        for index in range(3):
            distribution(Xml.SubElement(inner, f"CumulativePDF_cls{index}"), random, variable % 2)


def flat(made: Xml.Element, random: np.random.Generator, count: int, targets: int) -> None:
    gauss(made, random, count, targets)
    made.set("FlatOrGauss", "Flat")


FILLED = {
    "Normalize": normalize,
    "Decorrelation": decorrelation,
    "PCA": pca,
    "Gauss": gauss,
    "Flat": flat,
}


def distribution(parent: Xml.Element, random: np.random.Generator, equidistant: int) -> None:
    pdf = Xml.SubElement(
        parent, "PDF", Name="p", MinNSmooth="0", MaxNSmooth="0", InterpolMethod="1", KDE_type="0"
    )
    count = 50
    seen = np.sort(random.normal(size=count + 1))
    edges = np.linspace(-3, 3, count + 1) if equidistant else seen
    content = np.cumsum(random.random(count) * (random.random(count) < 0.7))
    ends = {"XMin": f"{edges[0]:.16e}", "XMax": f"{edges[-1]:.16e}"}
    given = {"Name": "h", "NBins": str(count), **ends, "HasEquidistantBins": str(equidistant)}
    Xml.SubElement(pdf, "Histogram", given).text = text(content / content[-1])
    if not equidistant:
        Xml.SubElement(pdf, "HistogramBinning", NBins=str(count)).text = text(edges)


def mlp(
    analysis: str = "Classification",
    neurons: str = "tanh",
    total: str = "sum",
    estimator: str = "CE",
    *,
    transforms: Sequence[Xml.Element] = (),
    release: str = "4.2.1 [262657]",
    outputs: int = 1,
    seed: int = 1,
) -> Xml.Element:
    """An MLP with two hidden layers."""
    random = np.random.default_rng(seed)
    root = Xml.Element("MethodSetup", Method="MLP::MLP")
    infos = Xml.SubElement(root, "GeneralInfo")
    for name, value in (("TMVA Release", release), ("AnalysisType", analysis)):
        Xml.SubElement(infos, "Info", name=name, value=value)
    said = {"NeuronType": neurons, "NeuronInputType": total, "EstimatorType": estimator}
    listed = Xml.SubElement(root, "Options")
    for name, value in said.items():
        Xml.SubElement(listed, "Option", name=name, modified="No").text = value
    variables = Xml.SubElement(root, "Variables", NVar=str(len(NAMES)))
    for i, name in enumerate(NAMES):
        Xml.SubElement(variables, "Variable", VarIndex=str(i), Expression=name, Label=name)
    classes = {"Classification": 2, "Multiclass": outputs}.get(analysis, 1)
    Xml.SubElement(root, "Classes", NClass=str(classes))
    if analysis == "Regression":
        Xml.SubElement(root, "Targets", NTrgt=str(outputs))
    listed = Xml.SubElement(root, "Transformations", NTransformations=str(len(transforms)))
    listed.extend(transforms)
    layers = (len(NAMES) + 1, 7, 4, outputs)
    layout = Xml.SubElement(Xml.SubElement(root, "Weights"), "Layout", NLayers=str(len(layers)))
    for index, count in enumerate(layers):
        layer = Xml.SubElement(layout, "Layer", Index=str(index), NNeurons=str(count))
        end = 0 if index == 3 else layers[index + 1] - (index < 2)
        for _ in range(count):
            neuron = Xml.SubElement(layer, "Neuron", NSynapses=str(end))
            if end:
                neuron.text = f"\n  {text(random.normal(size=end))} \n"
    return root
