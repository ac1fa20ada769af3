"""What code can be emitted for."""

from __future__ import annotations

from dataclasses import dataclass

from sofie_rdf.errors import InputError

__all__ = ["OFFERED", "TARGETS", "Target", "standard_of", "target_named"]


@dataclass(frozen=True)
class Target:
    """A way to run kernels: the header of its adapter, and the standard of C++ that it needs."""

    name: str
    header: str
    standard: str
    # How a Session is made, for the comment in the emitted header.
    example: str


TARGETS = {
    "alpaka": Target(
        "alpaka",
        "sofie/device/alpaka.hxx",
        "c++20",
        "Session session(sofie::device::Alpaka(queue, executor), {arguments});",
    ),
    "sycl": Target(
        "sycl",
        "sofie/device/sycl.hxx",
        "c++20",
        "Session session(sofie::device::Sycl(queue), {arguments}); // or SyclBuffers(queue)",
    ),
    # For tests: the same kernels in loops of C++17.
    "serial": Target(
        "serial",
        "sofie/device/serial.hxx",
        "c++17",
        "Session session(sofie::device::Serial(queue), {arguments});",
    ),
}


# What users can ask for.
OFFERED = ("cpu", "alpaka", "sycl")


def standard_of(target: str) -> str:
    """The standard of C++ that code for this target needs."""
    return "c++17" if target == "cpu" else target_named(target).standard


def target_named(name: str) -> Target:
    """The target of this name; InputError for others."""
    if name not in TARGETS:
        listed = ", ".join(map(repr, OFFERED))
        raise InputError(f"target={name!r} is unknown", remedy=f"Use one of {listed}")
    return TARGETS[name]
