"""What a Session refuses on each adapter: before a kernel is enqueued, and without a leak."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import sofie_rdf
from sofie_rdf.devices.program import program_for
from sofie_rdf.devices.session import emit_program
from tests.choice import some_of
from tests.devices.harness import SANITIZED, WAYS, compile_program, environment_of, require

DATA = Path(__file__).resolve().parents[2] / "data"

_CALLS = """
#include "model.hxx"
#include <cstdio>
#include <exception>
#include <new>
#include <string>

using namespace sofie::device;

struct Account {
   std::size_t left, live;
   int kernels, copies;
};

/// An adapter to a device with so many bytes left, which counts what is allocated and enqueued.
template <class Adapter>
class Limited {
   Adapter adapter_;
   Account *account_;

public:
   using Queue = typename Adapter::Queue;
   template <class T>
   using Array = typename Adapter::template Array<T>;
   struct Memory {
      typename Adapter::Memory memory;
      std::shared_ptr<Account> bytes;
   };

   Limited(const Adapter &adapter, Account &account) : adapter_(adapter), account_(&account) {}
   Memory allocate(std::size_t size) const
   {
      if (size > account_->left)
         throw std::bad_alloc();
      Memory found{adapter_.allocate(size), nullptr};
      account_->left -= size;
      account_->live += size;
      found.bytes = std::shared_ptr<Account>(account_, [size](Account *account) {
         account->left += size;
         account->live -= size;
      });
      return found;
   }
   template <class T>
   auto at(Memory &memory, Index begin) const
   {
      return adapter_.template at<T>(memory.memory, begin);
   }
   void upload(Memory &to, const void *from, std::size_t size) const
   {
      ++account_->copies;
      adapter_.upload(to.memory, from, size);
   }
   void download(Queue &queue, void *to, Memory &from, std::size_t size) const
   {
      ++account_->copies;
      adapter_.download(queue, to, from.memory, size);
   }
   template <class Kernel, class... Arrays>
   void groups(Queue &queue, Index count, const Kernel &kernel, const Arrays &...arrays) const
   {
      ++account_->kernels;
      adapter_.groups(queue, count, kernel, arrays...);
   }
};

template <class F>
void refused(const char *what, Account &account, const F &f)
{
   const Account before = account;
   try {
      f();
      std::printf("%s was taken\\n", what);
   } catch (const std::bad_alloc &) {
      std::printf("%s: no memory\\n", what);
   } catch (const std::exception &error) {
      std::printf("%s: %s\\n", what, error.what());
   }
   const int kernels = account.kernels - before.kernels;
   if (kernels != 0 || account.live != before.live || account.left != before.left)
      std::printf("%s left %d kernels and %zu bytes\\n", what, kernels, account.live - before.live);
}

template <class Adapter, class Queue>
void tried(const Adapter &adapter, Queue &queue, Account &account)
{
   using Session = TMVA_SOFIE_higgs_TARGET::Session<Adapter>;
   Session session(adapter, "model.dat", 4);
   Session other(adapter, session.weights(), 2);
   std::vector<float> y, z, again;
   session.infer(queue, std::vector<float>(28, 0.5F), y, 4);
   other.infer(queue, std::vector<float>(14, 0.5F), z, 2);
   const std::vector<float> four(4, y.at(0)), two(2, y[0]);
   std::printf("same %d\\n", y == four && z == two);
   {
      Staged<Adapter, float> in(adapter, 35), out(adapter, 5);
      refused("more", account, [&] { session.infer(queue, in.array(), out.array(), 5); });
      refused("fewer", account, [&] { session.infer(queue, in.array(), out.array(), -1); });
      const Account before = account;
      account.left = 0;
      session.infer(queue, in.array(), out.array(), 4);
      std::printf("enqueued %d kernels, %d copies, %zu bytes\\n", account.kernels - before.kernels,
                  account.copies - before.copies, account.live - before.live);
      account.left = before.left;
      out.to(queue, z); // It waits.
   }
   refused("size", account, [&] { session.infer(queue, std::vector<float>(6), z, 1); });
   refused("none", account, [&] { Session(adapter, "model.dat", 0); });
   refused("huge", account, [&] { Session(adapter, "model.dat", Index{1} << 50); });
   refused("absent", account, [&] { Session(adapter, "absent.dat", 1); });
   refused("folder", account, [&] { Session(adapter, "/", 1); });
   refused("foreign", account, [&] { Session(adapter, "foreign.dat", 1); });
   const std::size_t left = account.left;
   account.left = 100;
   refused("weights", account, [&] { Session(adapter, "model.dat", 4); });
   refused("buffers", account, [&] { Session(adapter, session.weights(), 4); });
   account.left = 28 * sizeof(float) + 2;
   refused("results", account, [&] { session.infer(queue, std::vector<float>(28, 0.5F), z, 4); });
   account.left = left;
#ifndef __SANITIZE_ADDRESS__
   // More than any machine has: the adapter itself says so.
   account.left = ~std::size_t{0} >> 1;
   refused("device", account, [&] { Session(adapter, session.weights(), Index{1} << 40); });
   account.left = left;
#endif
   session.infer(queue, std::vector<float>(28, 0.5F), again, 4);
   std::printf("untouched %d\\n", y == again);
}

int main()
{
   [[maybe_unused]] const unsigned seed = 3;
START   Account account{std::size_t{1} << 30, 0, 0, 0};
   using Adapter = std::remove_const_t<decltype(adapter)>;
   tried(Limited<Adapter>(adapter, account), queue, account);
   std::printf("%zu bytes leaked\\n", account.live);
}
"""


_ABSENT = (
    "absent: absent.dat: cannot be opened. Give the Session the path of the weight file that was "
    "written with its header"
)


@pytest.mark.parametrize("way", some_of(WAYS, ["serial"]))
def test_what_a_session_refuses_it_refuses_before_it_runs(way: str, tmp_path: Path) -> None:
    chosen = WAYS[way]
    require(chosen)
    program = program_for(sofie_rdf.load(DATA / "higgs.onnx").graph)
    made = emit_program(program, chosen.target, "higgs", "model.dat", whole=False)
    (tmp_path / "model.hxx").write_text(made.header)
    (tmp_path / "model.dat").write_bytes(made.weights)
    foreign = program_for(sofie_rdf.load(DATA / "jet_energy.onnx").graph)
    weights = emit_program(foreign, chosen.target, "foreign", "foreign.dat").weights
    (tmp_path / "foreign.dat").write_bytes(weights)
    text = _CALLS.replace("START", chosen.start).replace("TARGET", chosen.target)
    (tmp_path / "main.cpp").write_text(text)
    # AddressSanitizer ends a program that asks for too much, so the others ask without it.
    is_sanitized = way == "serial"
    compile_program(chosen, tmp_path, ("-O0", *(SANITIZED if is_sanitized else ())))
    done = subprocess.run(
        ["./program"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=environment_of(3),
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [
        "same 1",
        "more: higgs: N = 5 is not in 0 ... 4, for which this Session was made",
        "fewer: higgs: N = -1 is not in 0 ... 4, for which this Session was made",
        f"enqueued {len(program.launches)} kernels, 0 copies, 0 bytes",
        "size: higgs: input features has the wrong number of elements",
        "none: higgs: N: a Session is made for sizes from 1 to 2^40, not 0",
        f"huge: higgs: N: a Session is made for sizes from 1 to 2^40, not {2**50}",
        _ABSENT,
        "folder: /: is no weight file of sofie_rdf",
        "foreign: foreign.dat: does not belong to this header: tensor 0 differs",
        "weights: no memory",
        "buffers: no memory",
        "results: no memory",
        *([] if is_sanitized else ["device: no memory"]),
        "untouched 1",
        "0 bytes leaked",
    ]
