"""Models in Cling beside onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

import sofie_rdf as sofie
from sofie_rdf.ir.types import Array

__all__ = ["agree", "onnxruntime_gives", "outputs_of", "same"]


def outputs_of(model: sofie.Model, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """What the model gives, by name also where it has one output."""
    found = model(feeds)
    return found if isinstance(found, dict) else {model.graph.outputs[0]: found}


def onnxruntime_gives(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, map(np.asarray, session.run(None, dict(feeds))), strict=True))


def same(found: Array, expected: Array, name: str = "", *, parts: float = 1e-5) -> None:
    """Type and shape, and numbers up to so large a part of the largest one."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), name
    if found.dtype.kind in "iub":
        np.testing.assert_array_equal(found, expected, err_msg=name)
        return
    wide = expected.astype(np.float64)
    scale = float(np.max(np.abs(wide), initial=0.0))
    np.testing.assert_allclose(
        found.astype(np.float64), wide, rtol=parts, atol=parts * scale, err_msg=name
    )


def agree(proto: onnx.ModelProto, *calls: Mapping[str, Array], parts: float = 1e-5) -> sofie.Model:
    """One compiled model, after comparing what each call gives, in this order."""
    model = sofie.from_onnx(proto)
    for feeds in calls:
        expected = onnxruntime_gives(proto, feeds)
        found = outputs_of(model, feeds)
        assert list(found) == list(expected)
        for name, array in found.items():
            same(array, expected[name], name, parts=parts)
    return model
