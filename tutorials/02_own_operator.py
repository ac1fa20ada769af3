"""An operator of your own: a class in Python, a loop in C++, and a node of an ONNX model.

The class says what the operator is: the types of its results, its meaning in NumPy, and the call of
its kernel, which is in 02_own_operator.hxx beside this file. Files, .onnx and .root, name it
`tutorial.InvariantMass`: whoever loads them must have imported the module that registers it. A
package does that for its users with an entry point in the group `sofie_rdf.operators`.
"""

from __future__ import annotations

import numpy as np
import onnx.parser
import ROOT

import sofie_rdf as sofie


@sofie.operator(domain="tutorial", header="02_own_operator.hxx", ulp=2)
class InvariantMass(sofie.Operator):
    """sqrt(E^2 - |p|^2) of the sum of all four-vectors (px, py, pz, E) of an event"""

    def infer(self, p4):
        if p4.rank != 3 or p4.shape[2] != 4 or not p4.dtype.is_float:
            raise sofie.ShapeError(f"needs floats [events, particles, 4], not {p4}")
        return sofie.TensorType(p4.dtype, p4.shape[:1])

    def reference(self, p4):
        x, y, z, e = np.moveaxis(p4.sum(axis=1, dtype=np.float64), -1, 0)
        return np.sqrt(np.maximum(e * e - x * x - y * y - z * z, 0)).astype(p4.dtype)

    def lower(self, inputs, outputs):
        tensors = (sofie.Tensor(outputs[0]), sofie.Tensor(inputs[0]))
        return sofie.Call("tutorial::invariant_mass", tensors)


# A model with such a node: 1 for two leptons with the mass of the Z, less for others.
ONNX = """
<ir_version: 9, opset_import: ["": 17, "tutorial": 1]>
z_boson (float[N, 2, 4] leptons) => (float[N] score) <float mz = {91.19}, float width = {-2.5}> {
   mass = tutorial.InvariantMass(leptons)
   off = Sub(mass, mz)
   distance = Abs(off)
   exponent = Div(distance, width)
   score = Exp(exponent)
}"""
model = sofie.from_onnx(onnx.parser.parse_model(ONNX))
print(model.graph)
x = np.array([[[44, 2, 10, 45.166], [-45, 1, -9, 45.902]]], dtype=np.float32)
print("score of one event:", model(x))

# As a column: 8 numbers of an event are the four-vectors of its two leptons.
df = ROOT.RDataFrame(1000)
for i, (px, pz) in enumerate((("42 + 0.005 * rdfentry_", "10"), ("-45", "-9"))):
    df = df.Define(f"px{i}", px).Define(f"py{i}", "1.5").Define(f"pz{i}", pz)
    df = df.Define(f"e{i}", f"std::sqrt(px{i} * px{i} + py{i} * py{i} + pz{i} * pz{i})")
columns = [f"{c}{i}" for i in range(2) for c in ("px", "py", "pz", "e")]
df = sofie.define(df, "score", model, columns)
print(f"mean score {df.Mean('score').GetValue():.6f}")
