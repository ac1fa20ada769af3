"""What was understood of a file, made into what torch loads; and the weights looked at again."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sofie_rdf.errors import CorruptFile
from sofie_rdf.frontends.torch.archive import Archive, Objects
from sofie_rdf.frontends.torch.objects import ITEM_BYTES, TensorOf, TypeOf, array_of
from sofie_rdf.frontends.torch.zip import written

if TYPE_CHECKING:
    import torch

__all__ = ["archive_for_torch", "compare_weights"]


def archive_for_torch(archive: Archive) -> io.BytesIO:
    """The .pt2 file that torch is given."""
    pickles = {name: _saved(objects) for name, objects in archive.pickles.items()}
    return io.BytesIO(written({**archive.members, **pickles}, archive.root))


def _saved(objects: Objects) -> bytes:
    import torch

    if objects.tree == {}:
        return b""
    buffer = io.BytesIO()
    torch.save(_Builder(objects.storages).built(objects.tree), buffer)
    return buffer.getvalue()


class _Builder:
    """Objects of torch from what stands for them; what is shared stays shared."""

    def __init__(self, storages: Mapping[str, bytes]) -> None:
        self.contents = storages
        self.storages: dict[str, torch.UntypedStorage] = {}
        self.made: dict[int, Any] = {}

    def built(self, value: Any) -> Any:
        if isinstance(value, (TensorOf, list, tuple, dict)):
            if id(value) not in self.made:
                # A list that is in itself is no tree.
                self.made[id(value)] = None
                self.made[id(value)] = self._built(value)
            return self.made[id(value)]
        if isinstance(value, TypeOf):
            import torch

            return getattr(torch, value.name) if value.name in ITEM_BYTES else None
        return value

    def _built(self, value: Any) -> Any:
        if isinstance(value, TensorOf):
            return self._tensor(value)
        if isinstance(value, dict):
            return {key: self.built(inner) for key, inner in value.items()}
        return type(value)(self.built(inner) for inner in value)

    def _tensor(self, value: TensorOf) -> torch.Tensor:
        import torch

        dtype = getattr(torch, value.storage.dtype)
        flat = torch.empty(0, dtype=dtype)
        place = (value.offset, value.shape, value.strides)
        tensor = flat.set_(self._storage(value.storage.key), *place)  # type: ignore[call-overload, unused-ignore]
        if value.is_parameter:
            return torch.nn.Parameter(tensor, requires_grad=value.requires_grad)
        return tensor.requires_grad_() if value.requires_grad else tensor

    def _storage(self, key: str) -> torch.UntypedStorage:
        import torch

        if key not in self.storages:
            content = bytearray(self.contents[key])
            tensor = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0)
            self.storages[key] = tensor.untyped_storage()
        return self.storages[key]


def compare_weights(
    found: Mapping[str, Any], wanted: Mapping[str, tuple[TensorOf, bytes]], place: str
) -> None:
    """`CorruptFile` unless torch's tensors are the numbers that the file has."""
    for name, (tensor, content) in wanted.items():
        if name not in found:
            continue  # Nothing reads it.
        got = found[name]
        if (
            str(got.dtype) != f"torch.{tensor.storage.dtype}"
            or tuple(got.shape) != tensor.shape
            or not _is_same(got, array_of(tensor, content))
        ):
            raise CorruptFile(
                f"has a weight {name!r} that torch does not read as it was written", place=place
            )


def _is_same(got: torch.Tensor, wanted: np.ndarray[Any, Any]) -> bool:
    import torch

    if not math.prod(got.shape):
        return not wanted.size
    plain = got.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
    return np.array_equal(plain.view(torch.uint8).numpy().reshape(wanted.shape), wanted)
