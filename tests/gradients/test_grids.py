"""Derivatives of samples of a grid, by images and by positions, beside torch."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest

from sofie_rdf import Model
from sofie_rdf.errors import UnsupportedOperator
from sofie_rdf.frontends.onnx.reader import read
from tests.choice import some_of

torch = pytest.importorskip("torch")


def _model(mode: str, padding: str, corners: bool) -> Model:
    attributes = f'mode = "{mode}", padding_mode = "{padding}", align_corners = {int(corners)}'
    face = "(float[N, 2, 3, 4] x, float[N, 2, 5, 2] grid) => (float[N, 2, 2, 5] y)"
    body = f"y = GridSample <{attributes}> (x, grid)"
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    return Model(read(onnx.parser.parse_model(f"{head} g {face} {{ {body} }}")))


@pytest.mark.parametrize(
    ("mode", "padding", "corners"),
    some_of(
        [
            *product(["linear", "nearest"], ["zeros", "border", "reflection"], [False, True]),
            # At borders ONNX's cubic samples are others than torch's.
            *product(["cubic"], ["zeros", "reflection"], [False, True]),
        ],
        [("linear", "zeros", True), ("linear", "reflection", False), ("cubic", "zeros", False)],
    ),
)
def test_samples_have_torchs_derivatives(mode: str, padding: str, corners: bool) -> None:
    derived = _model(mode, padding, corners).gradient("y", vjp="v")
    random = np.random.default_rng(5)
    for count in (3, 1, 4):
        x = random.normal(size=(count, 2, 3, 4)).astype(np.float32)
        grid = random.uniform(-2.5, 2.5, (count, 2, 5, 2)).astype(np.float32)
        grid[0, 0, 0] = [-1, 1]  # A corner.
        if padding != "reflection":
            grid[0, 0, 1] = [-1e30, 1e30]
        v = random.normal(size=(count, 2, 2, 5)).astype(np.float32)
        given: list[Any] = [torch.tensor(a, requires_grad=True) for a in (x, grid)]
        theirs = {
            "mode": {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode),
            "padding_mode": padding,
        }
        y = torch.nn.functional.grid_sample(*given, align_corners=corners, **theirs)
        (y * torch.tensor(v)).sum().backward()
        found = derived(x=x, grid=grid, v=v)
        for name, tensor in zip(("x", "grid"), given, strict=True):
            slopes = found[f"d_y/d_{name}"]
            np.testing.assert_allclose(slopes, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


RESIZED: dict[str, tuple[str, dict[str, Any]]] = {
    "nearest": (
        'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"',
        {"mode": "nearest"},
    ),
    "linear": ('mode = "linear"', {"mode": "bilinear"}),
    "corners": (
        'mode = "linear", coordinate_transformation_mode = "align_corners"',
        {"mode": "bilinear", "align_corners": True},
    ),
    "cubic": ('mode = "cubic"', {"mode": "bicubic"}),
}


@pytest.mark.parametrize("name", some_of(RESIZED, ["cubic"]))
def test_images_of_open_size_have_torchs_derivatives(name: str) -> None:
    """To another size that is open, and by a factor."""
    attributes, theirs = RESIZED[name]
    body = f"""n = Shape <start = 0, end = 2> (x) s = Shape <start = 2> (like)
        wanted = Concat <axis = 0> (n, s) a = Resize <{attributes}> (x, , , wanted)
        factors = Constant <value_floats = [1.0, 1.0, 2.0, 1.0]> ()
        y = Resize <{attributes}> (a, , factors)"""
    face = "(float[N, 2, H, W] x, float[N, 1, U, V] like) => (float[N, 2, P, Q] y)"
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    model = Model(read(onnx.parser.parse_model(f"{head} g {face} {{ {body} }}")))
    derived = model.gradient("y", "x", vjp="v")
    random = np.random.default_rng(5)
    for count, old, new in ((3, (3, 4), (5, 7)), (1, (6, 5), (4, 3)), (2, (1, 3), (2, 3))):
        x = random.normal(size=(count, 2, *old)).astype(np.float32)
        v = random.normal(size=(count, 2, 2 * new[0], new[1])).astype(np.float32)
        given = torch.tensor(x, requires_grad=True)
        middle = torch.nn.functional.interpolate(given, new, **theirs)
        y = torch.nn.functional.interpolate(middle, (2 * new[0], new[1]), **theirs)
        (y * torch.tensor(v)).sum().backward()
        found = derived(x=x, like=np.zeros((count, 1, *new), np.float32), v=v)["d_y/d_x"]
        np.testing.assert_allclose(found, given.grad.numpy(), rtol=1e-4, atol=1e-5)


def _between(image: Any, at: Any) -> Any:
    """Samples of image[channels, height, width] at at[..., 2], linear and 0 outside."""
    size = torch.tensor(image.shape[1:])
    total = 0
    low = torch.floor(at)
    for corner in product([0, 1], [0, 1]):
        place = low + torch.tensor(corner)
        weight = (1 - (at - place).abs()).prod(-1)
        exists = ((place >= 0) & (place < size)).all(-1)
        place = place.long().clamp(torch.zeros(2).long(), size - 1)
        total = total + image[:, place[..., 0], place[..., 1]] * torch.where(exists, weight, 0)
    return total


@pytest.mark.exhaustive
def test_moved_convolutions_have_torchs_derivatives() -> None:
    body = """y = DeformConv <kernel_shape = [2, 2], pads = [0, 0, 1, 0], offset_group = 2,
        group = 2> (x, w, o, b, m)"""
    face = """(float[N, 4, H, 5] x, float[6, 2, 2, 2] w, float[N, 16, H, 4] o, float[6] b,
        float[N, 8, H, 4] m) => (float[N, 6, H, 4] y)"""
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    model = Model(read(onnx.parser.parse_model(f"{head} g {face} {{ {body} }}")))
    derived = model.gradient("y", vjp="v")
    random = np.random.default_rng(5)
    for count, height in ((2, 4), (1, 6), (3, 2)):
        rows = height
        shapes = [(count, 4, height, 5), (6, 2, 2, 2), (count, 16, rows, 4), (6,)]
        shapes.append((count, 8, rows, 4))
        arrays = [random.normal(size=shape).astype(np.float32) for shape in shapes]
        v = random.normal(size=(count, 6, rows, 4)).astype(np.float32)
        given = [torch.tensor(a, requires_grad=True) for a in arrays]
        x, w, o, b, m = given
        index = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(4), indexing="ij"), -1)
        moved = o.reshape(count, 2, 4, 2, rows, 4).movedim(3, -1)
        factors = m.reshape(count, 2, 4, rows, 4)
        columns = torch.stack(
            [
                torch.stack(
                    [
                        _between(
                            x[n, 2 * g : 2 * g + 2], index + torch.tensor(tap) + moved[n, g, t]
                        )
                        * factors[n, g, t]
                        for t, tap in enumerate(product([0, 1], [0, 1]))
                    ],
                    1,
                )
                for n in range(count)
                for g in range(2)
            ]
        ).reshape(count, 2, 2, 4, rows, 4)
        weights = w.reshape(2, 3, 2, 4)
        y = torch.einsum("ngcthw,gfct->ngfhw", columns, weights).reshape(v.shape)
        ((y + b[:, None, None]) * torch.tensor(v)).sum().backward()
        found = derived(**dict(zip("xwobm", arrays, strict=True)), v=v)
        np.testing.assert_allclose(
            found["y"], (y + b[:, None, None]).detach(), rtol=1e-4, atol=1e-5
        )
        for name, tensor in zip("xwobm", given, strict=True):
            wanted = tensor.grad.numpy()
            np.testing.assert_allclose(found[f"d_y/d_{name}"], wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("mode", some_of(["avg", "max"], []))
def test_regions_have_torchs_derivatives(mode: str) -> None:
    """By images, as torchvision has them; by corners, which it has not."""
    attributes = f'mode = "{mode}", output_height = 2, output_width = 1, sampling_ratio = 2'
    face = "(float[N, 2, H, 5] x, float[R, 4] rois, int64[R] at) => (float[R, 2, 2, 1] y)"
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    body = f"y = RoiAlign <{attributes}> (x, rois, at)"
    model = Model(read(onnx.parser.parse_model(f"{head} g {face} {{ {body} }}")))
    derived = model.gradient("y", vjp="v")
    random = np.random.default_rng(5)
    for count, height, regions in ((2, 4, 3), (1, 6, 1), (3, 3, 7)):
        x = random.normal(size=(count, 2, height, 5)).astype(np.float32)
        first = random.uniform(0.7, 1.5, (regions, 2))
        rois = np.concatenate([first, first + random.uniform(0.5, 1.4, (regions, 2))], 1)
        at = random.integers(0, count, regions)
        v = random.normal(size=(regions, 2, 2, 1)).astype(np.float32)
        given = [torch.tensor(a, requires_grad=True) for a in (x, rois.astype(np.float32))]
        rows = []
        for r in range(regions):
            begin, extent = given[1][r, :2] - 0.5, given[1][r, 2:] - given[1][r, :2]
            ys = begin[1] + extent[1] * torch.tensor([0.125, 0.375, 0.625, 0.875])
            xs = begin[0] + extent[0] * torch.tensor([0.25, 0.75])
            places = torch.stack(torch.meshgrid(ys, xs, indexing="ij"), -1)
            samples = _between(given[0][at[r]], places).reshape(2, 2, 2, 2)
            if mode == "avg":
                rows.append(samples.mean((2, 3)))
            else:
                rows.append(_largest(given[0][at[r]], places))
        y = torch.stack(rows)[..., None]
        (y * torch.tensor(v)).sum().backward()
        found = derived(x=x, rois=rois.astype(np.float32), at=at, v=v)
        np.testing.assert_allclose(found["y"], y.detach(), rtol=1e-4, atol=1e-5)
        for name, tensor in zip(("x", "rois"), given, strict=True):
            wanted = tensor.grad.numpy()
            np.testing.assert_allclose(found[f"d_y/d_{name}"], wanted, rtol=2e-4, atol=2e-5)


def _largest(image: Any, at: Any) -> Any:
    """ONNX's maximum: of what each corner counts, without a sum."""
    low, parts = torch.floor(at), []
    for corner in product([0, 1], [0, 1]):
        place = low + torch.tensor(corner)
        weight = (1 - (at - place).abs()).prod(-1)
        parts.append(image[:, place[..., 0].long(), place[..., 1].long()] * weight)
    return torch.stack(parts).reshape(4, 2, 2, 2, 2).amax((0, 3, 4))


def test_regions_that_say_how_many_points_they_have_are_refused() -> None:
    face = "(float[N, 2, 3, 5] x, float[R, 4] rois, int64[R] at) => (float[R, 2, 1, 1] y)"
    head = '<ir_version: 10, opset_import: ["" : 20]>'
    model = Model(
        read(onnx.parser.parse_model(f"{head} g {face} {{ y = RoiAlign (x, rois, at) }}"))
    )
    with pytest.raises(UnsupportedOperator, match=r"no gradient.*region.*sampling_ratio, such as"):
        model.gradient("y", vjp=True)
