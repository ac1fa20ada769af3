"""What infer() leaves in the registers for packs."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from sofie_rdf.ops.linear import Dense
from sofie_rdf.runtime.compile.cpu import cpu_description
from sofie_rdf.runtime.compile.interpreter import declare, import_root, instruction_set
from sofie_rdf.runtime.compile.session import compile_graph, pointers
from tests.passes.graphs import Net, floats

pytest.importorskip("ROOT")

# Bits 2 and 6 of what the CPU says about its registers: halves that are not zero.
_PROBE = """
namespace sofie_upper_halves {
using Call = const char *(*)(void *, const std::size_t *, const void *const *, void *const *);
int used(Call call, void *session, const void *const *in, void *const *out)
{
   const std::size_t none[1] = {0};
   int state, high;
   call(session, none, in, out);
   asm volatile("xgetbv" : "=a"(state), "=d"(high) : "c"(1));
   return state & (1 << 2 | 1 << 6);
}
std::uintptr_t address() { return reinterpret_cast<std::uintptr_t>(&used); }
}
"""


@pytest.mark.skipif(
    "xgetbv1" not in cpu_description() or instruction_set().simd_bytes == 16,
    reason="the CPU does not say which registers are in use",
)
def test_upper_halves_are_zero() -> None:
    net = Net()
    net.input("x", floats(1, 64))
    weights = np.ones((64, 64))
    net.op(Dense(), "x", net.c("w", weights), net.c("b", weights[0]), name="y")
    compiled = compile_graph(net.graph("y"), "cling")
    declare(_PROBE)
    kind = ctypes.CFUNCTYPE(ctypes.c_int, *4 * [ctypes.c_void_p])
    used = kind(int(import_root().sofie_upper_halves.address()))
    session = compiled.entries["create"](compiled.weights)
    x, y = np.ones((1, 64), "f4"), np.empty((1, 64), "f4")
    call = ctypes.cast(compiled.entries["call"], ctypes.c_void_p)
    assert used(call, session, pointers([x]), pointers([y])) == 0
    compiled.entries["destroy"](session)
    np.testing.assert_array_equal(y, 65)
