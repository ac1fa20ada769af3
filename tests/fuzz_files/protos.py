"""ONNX models that are changed field by field, so that they remain messages of that kind."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import onnx
from google.protobuf.message import DecodeError, EncodeError

from tests.fuzz_files.damage import NUMBERS, damaged

__all__ = ["mutated"]

_FLOATS = (float("nan"), float("inf"), -1e38, 0.5, 1e-45)
_INTEGERS = {1: 64, 2: 64, 3: 64, 4: 64, 5: 32, 13: 32, 14: 32}  # By the number of a field's type.
_FLOATING = (1, 2)


def mutated(data: bytes, rng: Random, others: Sequence[bytes]) -> bytes:
    """A few fields changed, lost, doubled, moved, or taken from another model."""
    try:
        model = onnx.ModelProto.FromString(data)
        donor = onnx.ModelProto.FromString(rng.choice(others)) if others else model
    except DecodeError:
        return damaged(data, rng, others)
    # What is lost by a change may be changed by a later one, without effect.
    messages = _messages(model)
    for _ in range(1 + min(rng.getrandbits(3), rng.getrandbits(3))):
        _change(rng.choice(messages), rng, model, donor)
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError):
        return data


def _messages(message: Any, depth: int = 0) -> list[Any]:
    """The message and all that are in it."""
    found = [message]
    for field, value in message.ListFields():
        if field.message_type is not None and depth < 20:
            inner = value if field.is_repeated else [value]
            for one in list(inner)[:200]:
                found += _messages(one, depth + 1)
    return found


def _change(message: Any, rng: Random, model: Any, donor: Any) -> None:
    fields = [f for f, _ in message.ListFields()] if rng.randrange(4) else []
    field = rng.choice(fields or list(message.DESCRIPTOR.fields))
    if field.is_repeated:
        _change_list(message, field, rng, donor)
    elif field.message_type is not None:
        if rng.randrange(3):
            _graft(getattr(message, field.name), rng, donor)
        else:
            message.ClearField(field.name)
    elif rng.randrange(8) == 0:
        message.ClearField(field.name)
    else:
        _assign(message, field, _scalar(field, getattr(message, field.name), rng, model))


def _assign(message: Any, field: Any, value: Any) -> None:
    try:
        setattr(message, field.name, value)
    except (ValueError, TypeError):  # No value of that type.
        message.ClearField(field.name)


def _graft(message: Any, rng: Random, donor: Any) -> None:
    """Another message of the same type in its place."""
    same = [m for m in _messages(donor) if m.DESCRIPTOR is message.DESCRIPTOR]
    if same:
        message.CopyFrom(rng.choice(same))


def _change_list(message: Any, field: Any, rng: Random, donor: Any) -> None:
    items = getattr(message, field.name)
    match rng.randrange(5):
        case 0 if items:
            del items[rng.randrange(len(items))]
        case 1 if items:
            one = items[rng.randrange(len(items))]
            for _ in range(rng.choice((1, 1, 1, 30))):
                items.append(one)
        case 2 if len(items) > 1:
            order = list(items)
            rng.shuffle(order)
            del items[:]
            items.extend(order)
        case 3 if field.message_type is not None:
            _graft(items.add(), rng, donor)
        case _ if field.message_type is None:
            value = _scalar(field, items[0] if items else None, rng, donor)
            try:
                if items and rng.randrange(3):
                    items[rng.randrange(len(items))] = value
                else:
                    items.append(value)
            except (ValueError, TypeError):
                return


def _scalar(field: Any, value: Any, rng: Random, model: Any) -> Any:
    if field.type in _FLOATING:
        return rng.choice(_FLOATS)
    if field.type in (9, 12):  # A text, or bytes.
        return _text(field, value, rng, model)
    if field.enum_type is not None:
        return rng.randrange(0, 30)
    if isinstance(value, int) and rng.randrange(3) == 0:
        return value + rng.choice((-1, 1))
    bits = _INTEGERS.get(field.type, 64)
    number = rng.choice(NUMBERS) if rng.randrange(2) else rng.randrange(-3, 30)
    return max(min(number, 2 ** (bits - 1) - 1), -(2 ** (bits - 1)))


def _text(field: Any, value: Any, rng: Random, model: Any) -> Any:
    """A name that stands elsewhere in the model, or an odd one."""
    if field.type == 12:
        return damaged(bytes(value or b"\0"), rng, ())
    names = [
        v for m in _messages(model) for f, v in m.ListFields() if f.type == 9 and not f.is_repeated
    ]
    for node in model.graph.node:
        names += [*node.input, *node.output]
    odd = ("", "\0", "x" * 3000, "../x", "Loop", "If", "Scan", "ai.onnx.ml", "é", str(value) + "_")
    return rng.choice(names) if names and rng.randrange(3) else rng.choice(odd)
