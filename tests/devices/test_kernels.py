"""Kernels that are wrong on purpose: the tests of kernels see what they are made to see."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from sofie_rdf.devices.targets import TARGETS
from tests.choice import some_of
from tests.devices.harness import WAYS, Way, compile_program, environment_of, require

_KERNELS = """
#include <cstdio>
using namespace sofie::device;

/// Turns 64 numbers around, through local memory.
template <bool Barrier>
struct Turn {
   static constexpr int items = 64;
   struct Local {
      float values[items];
   };
   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, float *y, const float *x) const
   {
      auto &local = group.local();
      const Index begin = group.index() * items;
      if constexpr (Barrier) {
         group.each([&](int item) { local.values[item] = x[begin + item]; });
         group.last([&](int item) { y[begin + item] = local.values[items - 1 - item]; });
      } else {
         group.last([&](int item) {
            local.values[item] = x[begin + item];
            y[begin + item] = local.values[items - 1 - item];
         });
      }
   }
};

/// A barrier that half of the work-items come to.
struct Leave {
   static constexpr int items = 64;
   using Local = None;
   template <class Group>
   SOFIE_DEVICE void operator()(Group &group, float *y, const float *x) const
   {
      group.last([&](int item) {
         if (item < items / 2)
            group.each([&](int) { y[item] = x[item]; });
      });
   }
};

struct Double {
   Index shift;
   template <class At>
   SOFIE_DEVICE void operator()(At at, float *y, const float *x) const
   {
      y[at.index + shift] = 2 * x[at.index];
   }
};

int main()
{
   [[maybe_unused]] constexpr unsigned seed = SEED;
"""
_TURN = """
   std::vector<float> x(128), y(128);
   for (int i = 0; i < 128; ++i)
      x[static_cast<std::size_t>(i)] = static_cast<float>(i);
   auto from = adapter.allocate(512), to = adapter.allocate(512);
   adapter.upload(from, x.data(), 512);
   const auto a = read(adapter.at<float>(from, 0));
   groups(adapter, queue, 2, Turn<BARRIER>{}, adapter.at<float>(to, 0), a);
   adapter.download(queue, y.data(), to, 512);
   for (int i = 0; i < 128; ++i)
      if (!(y[static_cast<std::size_t>(i)] == static_cast<float>(i / 64 * 64 + 63 - i % 64)))
         return 7;
}
"""
_LEAVE = """
   std::vector<float> x(64), y(64);
   auto from = adapter.allocate(256), to = adapter.allocate(256);
   adapter.upload(from, x.data(), 256);
   groups(adapter, queue, 1, Leave{}, adapter.at<float>(to, 0), read(adapter.at<float>(from, 0)));
   adapter.download(queue, y.data(), to, 256);
}
"""
_DOUBLE = """
   std::vector<float> x(300, 1), y(300);
   auto to = adapter.allocate(1200), from = adapter.allocate(1200);
   adapter.upload(from, x.data(), 1200);
   const auto a = read(adapter.at<float>(from, 0));
   items(adapter, queue, 300, Double{SHIFT}, adapter.at<float>(to, 0), a);
   adapter.download(queue, y.data(), to, 1200);
   return y[0] == 2 && y[299] == 2 ? 0 : 7;
}
"""


def run(way: Way, body: str, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """What a program with these kernels does."""
    require(way)
    target = TARGETS[way.target]
    source = f'#include "{target.header}"\n{_KERNELS}{way.start}{body}'
    (folder / "main.cpp").write_text(source)
    compile_program(way, folder, ("-O0", *flags))
    return subprocess.run(
        ["./program"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment_of(5),
    )


@pytest.mark.parametrize("way", some_of(WAYS, ["serial", "alpaka-serial", "sycl"]))
def test_a_barrier_makes_it_right(way: str, tmp_path: Path) -> None:
    assert run(WAYS[way], _TURN, tmp_path, "-DBARRIER=true", "-DSEED=3").returncode == 0


@pytest.mark.parametrize("way", ["serial", "sycl"])
def test_a_missing_barrier_is_seen(way: str, tmp_path: Path) -> None:
    assert run(WAYS[way], _TURN, tmp_path, "-DBARRIER=false", "-DSEED=3").returncode == 7


def test_a_barrier_that_some_do_not_reach_is_fatal(tmp_path: Path) -> None:
    """The checks of SimSYCL end a program."""
    done = run(WAYS["sycl"], _LEAVE, tmp_path, "-DSEED=3")
    assert done.returncode == -signal.SIGABRT
    assert "SimSYCL check failed" in done.stdout


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_an_index_that_is_out_of_range_is_seen(tmp_path: Path) -> None:
    sanitized = ["-fsanitize=address", "-DSEED=3"]
    right = run(WAYS["serial"], _DOUBLE, tmp_path, "-DSHIFT=0", *sanitized)
    assert right.returncode == 0, right.stderr
    wrong = run(WAYS["serial"], _DOUBLE, tmp_path, "-DSHIFT=1", *sanitized)
    assert wrong.returncode != 0 and "heap-buffer-overflow" in wrong.stderr
