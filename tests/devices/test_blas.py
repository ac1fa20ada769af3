"""Products by a vendor's library, for whose headers others stand that compute plainly."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sofie_rdf.emit.code import include_directory
from sofie_rdf.ir.builder import Builder
from sofie_rdf.ir.dims import symbol
from sofie_rdf.ir.graph import Graph
from sofie_rdf.ir.types import DType, TensorType
from sofie_rdf.ops.elementwise import Relu
from sofie_rdf.ops.layout import Transpose
from sofie_rdf.ops.linear import Gemm, MatMul
from sofie_rdf.reference import evaluate
from tests.devices.harness import CUDA, WAYS, compiled, require
from tests.devices.test_models import feeds_of, mixed

# What the libraries' documentation says of these functions, as loops; calls are counted.
_CBLAS = """
#pragma once
#include <cstdio>
enum CBLAS_ORDER { CblasRowMajor = 101 };
enum CBLAS_TRANSPOSE { CblasNoTrans = 111, CblasTrans = 112 };
template <class T>
void plain_gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k, T alpha, const T *a,
                int lda, const T *b, int ldb, T beta, T *c, int ldc)
{
   static bool said = false;
   if (!said)
      std::fprintf(stderr, "BLAS\\n");
   said = true;
   for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
         T sum = 0;
         for (int p = 0; p < k; ++p)
            sum += (ta == CblasTrans ? a[p * lda + i] : a[i * lda + p]) *
                   (tb == CblasTrans ? b[j * ldb + p] : b[p * ldb + j]);
         c[i * ldc + j] = alpha * sum + (beta == T(0) ? T(0) : beta * c[i * ldc + j]);
      }
}
inline void cblas_sgemm(CBLAS_ORDER, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                        float alpha, const float *a, int lda, const float *b, int ldb, float beta,
                        float *c, int ldc)
{
   plain_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
inline void cblas_dgemm(CBLAS_ORDER, CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int m, int n, int k,
                        double alpha, const double *a, int lda, const double *b, int ldb,
                        double beta, double *c, int ldc)
{
   plain_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
"""


def products() -> Graph:
    """Offsets, scales, transposed matrices, batches that are repeated wholly and in part."""
    build, n = Builder("products"), symbol("N")
    random = np.random.default_rng(2)

    def constant(*shape: int) -> str:
        return build.constant(random.normal(size=shape).astype(np.float32))

    x = build.input("x", TensorType(DType.FLOAT32, (n, 5)))
    z = build.input("z", TensorType(DType.FLOAT32, (n, 4, 3, 5)))
    dense = build(Gemm(alpha=0.5, beta=2.0, transB=True), x, constant(7, 5), constant(7))
    turned = build(Gemm(transA=True), x, build(Relu(), x), constant(5, 1))
    bent = build(Relu(), build(Gemm(), x, constant(5, 9), constant(1, 9)))
    shared = build(MatMul(), z, constant(5, 2))
    in_part = build(MatMul(), z, constant(4, 5, 2))
    each = build(MatMul(), z, build(Transpose((0, 1, 3, 2)), z))
    return build.graph(dense, turned, bent, shared, in_part, each)


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    (tmp_path / "blas").mkdir()
    (tmp_path / "blas" / "cblas.h").write_text(_CBLAS)
    return tmp_path / "blas"


@pytest.mark.parametrize("graph", [products, mixed], ids=["products", "mixed"])
def test_products_by_a_blas_of_a_cpu(
    graph: Callable[[], Graph], headers: Path, tmp_path: Path
) -> None:
    flags = ["-O1", f"-I{headers}", "-DSOFIE_DEVICE_CBLAS", "-fsanitize=address,undefined"]
    sizes = [3, 1, 0, 70, 2]
    history = [{"N": n, "M": 4} if graph is mixed else {"N": n} for n in sizes]
    way = replace(WAYS["serial"], flags=(*WAYS["serial"].flags, *flags))
    program = compiled(graph(), way, tmp_path, whole=False)
    batches = [(one, feeds_of(program.program.graph, one, i)) for i, one in enumerate(history)]
    for (one, feeds), found in zip(batches, program.run(batches), strict=True):
        for name, wanted in evaluate(program.program.graph, feeds).items():
            np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=2e-6, err_msg=str(one))
    done = subprocess.run(
        [str(program.binary), "0", str(program.weights), "1", "0", *["70"] * len(history[0])],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert "BLAS" in done.stderr


_CUBLAS = """
#pragma once
enum cublasStatus_t { CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_INITIALIZED };
enum cublasOperation_t { CUBLAS_OP_N, CUBLAS_OP_T };
using cublasHandle_t = int *;
inline cublasStatus_t cublasCreate(cublasHandle_t *) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasDestroy(cublasHandle_t) { return CUBLAS_STATUS_SUCCESS; }
inline cublasStatus_t cublasSetStream(cublasHandle_t, void *) { return CUBLAS_STATUS_SUCCESS; }
#define BY_COLUMNS(name, T)                                                                        \
   inline cublasStatus_t name(cublasHandle_t, cublasOperation_t ta, cublasOperation_t tb, int m,   \
                              int n, int k, const T *alpha, const T *a, int lda, long long sa,     \
                              const T *b, int ldb, long long sb, const T *beta, T *c, int ldc,     \
                              long long sc, int count)                                             \
   {                                                                                               \
      for (int q = 0; q < count; ++q)                                                              \
         for (int i = 0; i < m; ++i)                                                               \
            for (int j = 0; j < n; ++j) {                                                          \
               T sum = 0;                                                                          \
               for (int p = 0; p < k; ++p)                                                         \
                  sum += a[q * sa + (ta ? i * lda + p : p * lda + i)] *                            \
                         b[q * sb + (tb ? p * ldb + j : j * ldb + p)];                             \
               T &to = c[q * sc + j * ldc + i];                                                    \
               to = *alpha * sum + (*beta == T(0) ? T(0) : *beta * to);                            \
            }                                                                                      \
      return CUBLAS_STATUS_SUCCESS;                                                                \
   }
BY_COLUMNS(cublasSgemmStridedBatched, float)
BY_COLUMNS(cublasDgemmStridedBatched, double)
"""

_ROCBLAS = (
    _CUBLAS.replace("CUBLAS_STATUS_SUCCESS", "rocblas_status_success")
    .replace("CUBLAS_STATUS_NOT_INITIALIZED", "rocblas_status_invalid_handle")
    .replace("CUBLAS_OP_N", "rocblas_operation_none")
    .replace("CUBLAS_OP_T", "rocblas_operation_transpose")
    .replace("cublasStatus_t", "rocblas_status")
    .replace("cublasOperation_t", "rocblas_operation")
    .replace("cublasHandle_t", "rocblas_handle")
    .replace("cublasCreate", "rocblas_create_handle")
    .replace("cublasDestroy", "rocblas_destroy_handle")
    .replace("cublasSetStream", "rocblas_set_stream")
    .replace("cublasSgemmStridedBatched", "rocblas_sgemm_strided_batched")
    .replace("cublasDgemmStridedBatched", "rocblas_dgemm_strided_batched")
)

_VENDOR = """
#include "sofie/device/serial.hxx"
#include "sofie/device/functions.hxx"
#include "sofie/device/blas.hxx"

using namespace sofie::device;

template <class T>
bool right(bool ta, bool tb, int m, int n, int k, int count, bool shared)
{
   std::vector<T> a(1000), b(1000), y(1000, 3), wanted(1000, 3);
   for (int i = 0; i < 1000; ++i) {
      a[static_cast<std::size_t>(i)] = static_cast<T>(i % 7 - 3);
      b[static_cast<std::size_t>(i)] = static_cast<T>(i % 5 - 1);
   }
   const Index a_step = m * k, b_step = shared ? 0 : k * n;
   const Product<T> p{ta,       tb,       m,        n,      k,      T(2), T(1),
                      a.data(), b.data(), y.data(), a_step, b_step, count};
   for (Index q = 0; q < count; ++q)
      for (Index i = 0; i < m; ++i)
         for (Index j = 0; j < n; ++j)
            for (Index c = 0; c < k; ++c) {
               const Index left = q * a_step + (ta ? c * m + i : i * k + c);
               const Index other = q * b_step + (tb ? j * k + c : c * n + j);
               wanted[static_cast<std::size_t>(q * m * n + i * n + j)] +=
                  T(2) * a[static_cast<std::size_t>(left)] * b[static_cast<std::size_t>(other)];
            }
   return Vendor::gemm(Vendor::Handle{}, p) && y == wanted;
}

int main()
{
   bool all = true;
   for (int form = 0; form < 8; ++form) {
      const bool ta = form & 1, tb = form & 2, shared = form & 4;
      all = all && right<float>(ta, tb, 3, 4, 5, 2, shared);
      all = all && right<double>(ta, tb, 1, 6, 2, 3, shared);
      all = all && right<float>(ta, tb, 5, 1, 3, 1, shared);
      all = all && right<double>(ta, tb, 2, 3, 1, 4, shared);
   }
   return all ? 0 : 7;
}
"""


@pytest.mark.parametrize(
    ("macro", "header", "text"),
    [("CUBLAS", "cublas_v2.h", _CUBLAS), ("ROCBLAS", "rocblas/rocblas.h", _ROCBLAS)],
)
def test_vendors_are_given_the_same_product_by_columns(
    macro: str, header: str, text: str, tmp_path: Path
) -> None:
    require(WAYS["serial"])
    (tmp_path / header).parent.mkdir(exist_ok=True)
    (tmp_path / header).write_text(text)
    (tmp_path / "main.cpp").write_text(_VENDOR)
    command = ["g++", "-std=c++20", "-O0", f"-DSOFIE_DEVICE_{macro}", "-Wall", "-Wextra", "-Werror"]
    command += [f"-I{tmp_path}", f"-I{include_directory()}", "main.cpp", "-o", "program"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    assert subprocess.run(["./program"], cwd=tmp_path, check=False, timeout=60).returncode == 0


@pytest.mark.exhaustive
def test_products_by_cublas_are_compiled_by_nvcc(tmp_path: Path) -> None:
    """With the header that stands for cuBLAS's: the calls and the queue's stream have its types."""
    require(CUDA)
    (tmp_path / "cublas_v2.h").write_text(_CUBLAS.replace("void *", "cudaStream_t"))
    way = replace(CUDA, flags=(*CUDA.flags, f"-I{tmp_path}", "-DSOFIE_DEVICE_CUBLAS"))
    assert compiled(products(), way, tmp_path / "made", whole=False).binary.is_file()
