"""What all tests share: ``pytest --update-golden`` and the `golden` fixture."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.forks import Forks

ROOT = Path(__file__).resolve().parents[1]
# `from tests.ops.cases import ...`, from wherever pytest was started.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# No deadlines: how long an example takes is the machine's business. The examples are the same at
# every run, so that a test command says the same on every machine. A search for new ones is a run
# of its own, which `make fuzz` starts with a seed that it prints.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=1000, database=None)
settings.load_profile("search" if os.environ.get("SOFIE_RDF_SEARCH") else "same")

# One process for each core: threads of the libraries of linear algebra, which wait for each other
# by counting, took most of the time of the tests of convolutions. NumPy and torch read this once.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# A shell that starts the tests in the background has them ignore interrupts, which some tests send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing that a test sees may come from an earlier run, nor stay behind.
os.environ["SOFIE_RDF_CACHE"] = "off"
os.environ["SOFIE_RDF_COMPILER"] = "cling"
# What the tests have for Keras to compute with.
os.environ.setdefault("KERAS_BACKEND", "torch")
_CONFIG = tempfile.TemporaryDirectory(prefix="sofie_rdf-config-")
os.environ["XDG_CONFIG_HOME"] = _CONFIG.name

Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden/ anew instead of comparing"
    )


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and 10,000 tests stay to the end: nobody looks for garbage among them.

    A quarter of the time to collect them was that (19.2 and 14.4 s of a core).
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is marked as `fresh_process` runs in one, where no other test has run before.

    What others leave here (threads, memory that is shared with other processes) is not there.
    """
    if pyfuncitem.get_closest_marker("fresh_process") is None or IN_FRESH_PROCESS in os.environ:
        return None
    with tempfile.TemporaryDirectory(prefix="sofie_rdf-fresh-") as folder:
        done = _fresh().run(_ONE_TEST, pyfuncitem.nodeid, str(ROOT), f"{folder}/tmp", seconds=600)
    if done.returncode:
        pytest.fail(f"in a fresh process:\n{done.stdout}\n{done.stderr}", pytrace=False)
    return True


IN_FRESH_PROCESS = "SOFIE_RDF_TESTS_FRESH"
_ONE_TEST = """
import os, sys
import pytest
test, folder, temporary = sys.argv[1:]
os.chdir(folder)
options = ["-q", "-m", "", "-p", "no:cacheprovider", f"--basetemp={temporary}"]
options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
sys.exit(pytest.main([test, *options]))
"""


@lru_cache
def _fresh() -> Forks:
    from tests.forks import Forks

    imports = "import hypothesis, numpy, pytest, sofie_rdf.isolation, sofie_rdf.limits"
    return Forks(imports, {**os.environ, IN_FRESH_PROCESS: "1"})


@pytest.fixture(scope="module")
def unoptimized(pytestconfig: pytest.Config) -> Iterator[None]:
    """Cling compiles without optimisation meanwhile, here and in processes that tests start.

    For tests of columns, files and options, most of whose time is Cling's, with what ROOT compiles
    for a data frame: 4.3 s of a core for a first column of the Higgs network, and 2.7 so. Tests of
    kernels have the code that a user has, and so has all that is exhaustive.
    """
    if pytestconfig.getoption("markexpr") == "exhaustive":
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXTRA_CLING_ARGS", "-O0")
        root = sys.modules.get("ROOT")
        if root is None:
            yield
            return
        root.gInterpreter.ProcessLine(".O0")
        yield
        root.gInterpreter.ProcessLine(".O1")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden(file, text)``: the text is that of tests/golden/file."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            return
        assert path.exists(), f"{path} is missing: run pytest --update-golden and look at it"
        assert text == path.read_text(), f"{name} differs: look, then run pytest --update-golden"

    return compare
