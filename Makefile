# make demo         a trained network scores the HIGGS events that ROOT ships
# make test         all checks, and the tests that a change must pass
# make test-all     the same, then what is exhaustive: more cases of each kind, tutorials, sanitizers
# make test-simd    the contract's cases of all operators with AVX2, and without it, which make test-all has too
# make quick        the checks, and the tests of the graph, the passes, the emitted text, and of networks
#                   in Cling
# make test-op      the tests of the operators whose names begin with OP=Conv
# make lint         the checks alone: ruff, mypy, clang-format
# make conformance  all tests that ONNX has for its operators, and a table of what passes, which is
#                   also in out/conformance.md; REGEX='test_conv.*' chooses some by name.
#                   Then real models beside onnxruntime, of CMS and SOFIE where SOFIE_RDF_MODELS
#                   has them, and from packages on PyPI, with a table in out/real.md; and PyTorch's
#                   modules and layers beside torch, with a table in out/torch.md. Then the bits
#                   of all operators by Cling and by g++; all operators and real models on each
#                   adapter of devices, which are found as CONTRIBUTING says, with a table in
#                   out/devices.md; ROOT's own tutorials of SOFIE, and ours of jets with real files of NanoAOD
# make fuzz         random networks, beside onnxruntime, for SECONDS=60, from SEED=1 on; what fails is
#                   made small, printed, and written to out/fuzz/
# make fuzz-files   files of each kind that somebody damaged, for SECONDS=60 of each; KIND=onnx (or
#                   several, with commas) chooses, SEED=1 repeats, and WORKERS=2 are so many kinds at
#                   a time. What does harm is made small, printed, and kept in out/fuzz-files/
# make soak         models that are loaded, defined, called and dropped in threads, for MINUTES=60:
#                   the same numbers, and no more memory
# make test-roots   tests that need ROOT, with older versions of it: the wheels of 6.37 to 6.39 on PyPI
#                   (200 MB each), or ROOTS='0.1a10'
# make graph-nets   Graph Nets against TensorFlow, which it installs (600 MB)
# make gpu          networks on an NVIDIA GPU, numbers and times, beside ONNX Runtime's CUDA provider where
#                   onnxruntime-gpu is installed. It needs nvcc, and alpaka 3 in SOFIE_RDF_ALPAKA. It was never
#                   run on a GPU: the same programs run on CPUs, and nvcc compiles them
# make docs         the site of docs/, in out/site: tutorials run, links are checked, a warning is an error
# make clean        remove .venv and everything that was made
#
# Each sets up what it needs in .venv, once. PYTHON=python3.12 chooses the interpreter.

VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --quiet install
CXX_FILES = $(shell find cling -name '*.hxx' -o -name '*.h') $(wildcard tutorials/*.C tutorials/*.cpp tutorials/*.hxx)

# Modules, and tests with their assertions, are compiled once, not by each process that imports them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-all test-exhaustive test-simd quick test-op test-roots lint conformance fuzz fuzz-files soak gpu graph-nets docs clean FORCE
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

demo: $(VENV)/demo-ready
	@ls /usr/include/c++/*/cassert >/dev/null 2>&1 || \
	   echo "There are no C++ headers in /usr/include: if ROOT complains about that, it still works"
	@$(BIN)/python -W ignore::UserWarning:ROOT tutorials/higgs_demo.py

test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal

test-all: test test-exhaustive

test-exhaustive: $(VENV)/test-ready
	$(BIN)/python -m pytest -n auto --dist worksteal -m exhaustive
	@$(MAKE) test-simd

# What an older CPU would choose; the tests above have what this one does.
test-simd: $(VENV)/test-ready
	@for simd in avx2 generic; do \
	   if [ $$simd = generic ] || grep -qw $$simd /proc/cpuinfo 2>/dev/null; then \
	      echo "with SOFIE_RDF_SIMD=$$simd"; \
	      SOFIE_RDF_SIMD=$$simd $(BIN)/python -m pytest -q -n auto tests/ops/test_contract.py \
	         tests/runtime/test_precision.py && \
	      SOFIE_RDF_SIMD=$$simd $(BIN)/python -m pytest -q -n auto -m '' tests/ops/test_same_bits.py || exit 1; \
	   fi; \
	done

quick: lint
	$(BIN)/python -m pytest -q -n auto tests/passes tests/emit tests/test_architecture.py tests/test_model.py \
	   tests/ir/test_dims.py tests/ir/test_text.py tests/ir/test_verify.py

test-op: $(VENV)/test-ready
	$(BIN)/python -m pytest -q -n auto -m '' tests/ops/test_contract.py tests/ops/test_reference.py -k '[$(OP) or -$(OP)'

lint: $(VENV)/test-ready
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	MYPY_NUM_WORKERS=2 $(BIN)/python -m mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

conformance: $(VENV)/test-ready
	@$(BIN)/python -W ignore -m tests.conformance $(if $(REGEX),'$(REGEX)')
	@$(if $(REGEX),:,$(BIN)/python -W ignore -m tests.conformance.real --pypi)
	@$(if $(REGEX),:,$(BIN)/python -W ignore -m tests.conformance.torch_models --pypi)
	@$(if $(REGEX),:,SOFIE_RDF_ALL_KERNELS=1 $(BIN)/python -m pytest -q -n auto tests/ops/test_same_bits.py)
	@$(if $(REGEX),:,SOFIE_RDF_ALL_KERNELS=1 $(BIN)/python -m pytest -q -n auto -m '' tests/devices/test_contract.py \
	   tests/devices/test_convolutions.py tests/devices/test_cuda.py tests/devices/test_real.py)
	@$(if $(REGEX),:,$(BIN)/python -W ignore -m tests.devices.real)
	@$(if $(REGEX),:,SOFIE_RDF_TUTORIALS=1 $(BIN)/python -m pytest -q tests/tmva/test_tutorials.py \
	   tests/test_tutorials.py::test_10_and_11_with_real_files)

fuzz: $(VENV)/test-ready
	@$(BIN)/python -W ignore -m tests.fuzz $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

fuzz-files: $(VENV)/test-ready
	@$(BIN)/python -W ignore -m tests.fuzz_files $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
	   $(if $(KIND),--kind $(KIND)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(GUIDED),--guided)

soak: $(VENV)/test-ready
	@$(BIN)/python -W ignore -m tests.soak $(if $(MINUTES),--minutes $(MINUTES))

test-roots: $(VENV)/test-ready
	$(BIN)/python -m tests.roots $(ROOTS)

gpu: $(VENV)/test-ready
	@$(BIN)/python -W ignore -m tests.devices.gpu

graph-nets: $(VENV)/graph-nets-ready
	$(BIN)/python -m pytest -n auto tests/frontends/graph_nets

# Not --quiet: it hides warnings from --strict, too.
docs: $(VENV)/docs-ready
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -W ignore::UserWarning:ROOT -m mkdocs build --strict
	@echo "the site is in out/site: open out/site/index.html"

clean:
	rm -rf $(VENV) build dist out .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up. Files in .venv say what is done; it is done again when pyproject.toml changes.

$(VENV)/demo-ready: pyproject.toml $(VENV)/made
	@echo "installing what the demo needs"
	@$(INSTALL) --editable . --group demo
	@touch $@

# All cores compile what pip would compile with one, without what nobody imports: the tests of packages
# are a fourth of them. Some files of packages are no Python: never mind.
$(VENV)/test-ready: pyproject.toml $(VENV)/made
	@echo "installing what the tests need"
	@$(INSTALL) --no-compile --editable . --group test
	@$(BIN)/python -m compileall -q -j 0 -x '/(tests?|testing|pip|mypyc?)/' $(VENV)/lib > /dev/null 2>&1 || :
	@touch $@

$(VENV)/graph-nets-ready: $(VENV)/test-ready
	@echo "installing TensorFlow and Graph Nets"
	@$(INSTALL) --editable . --group graph-nets
	@touch $@

$(VENV)/docs-ready: $(VENV)/test-ready
	@echo "installing what the site needs"
	@$(INSTALL) --editable . --group docs
	@touch $@

# The interpreter is PYTHON, or the first that is new enough. A .venv of another one than PYTHON is
# made again. Groups of dependencies need pip 25.1.
CANDIDATES := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python3.10)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 10))
WHICH := import sys; print(sys.version_info[:2], sys.base_prefix)
ifdef PYTHON
  OTHER := $(shell [ "$$($(PYTHON) -c '$(WHICH)' 2>&1)" = "$$($(BIN)/python -c '$(WHICH)' 2>&1)" ] || echo FORCE)
endif

$(VENV)/made: $(OTHER)
	@for python in $(CANDIDATES) none; do \
	   $$python -c '$(NEW_ENOUGH)' 2>/dev/null && break; \
	done; \
	if [ $$python = none ]; then \
	   echo "No Python 3.10 or newer (tried: $(CANDIDATES)). Choose one: make ... PYTHON=/path/to/python3" >&2; \
	   exit 1; \
	fi; \
	if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
	   echo "$$python cannot make a .venv: it lacks venv or ensurepip. On Debian and Ubuntu: apt install python3-venv" >&2; \
	   exit 1; \
	fi; \
	echo "setting up $(VENV) with $$($$python --version) (about a minute, 300 MB)"; \
	rm -rf $(VENV) && $$python -m venv $(VENV)
	@$(INSTALL) --upgrade 'pip>=25.1'
	@touch $@
