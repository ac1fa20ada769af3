/// \file
/// Matrix products by a library of the vendor, which a macro chooses when a program is compiled:
///
///     SOFIE_DEVICE_CUBLAS    alpaka on GPUs of NVIDIA
///     SOFIE_DEVICE_ROCBLAS   alpaka on GPUs of AMD
///     SOFIE_DEVICE_ONEMATH   SYCL with pointers of USM, by oneMath, which calls oneMKL, cuBLAS or rocBLAS
///     SOFIE_DEVICE_CBLAS     the serial adapter, by any BLAS of a CPU: what tests run
///
/// Without a macro, and for products that no library has (whole numbers, batches that are repeated in part), the tiles
/// of gemm.hxx do it. An offset is put into the result before, and a function is applied to it behind.
/// None of these libraries was ever called but CBLAS.
#ifndef SOFIE_DEVICE_BLAS_HXX
#define SOFIE_DEVICE_BLAS_HXX

#include <climits>

#include "sofie/device/gemm.hxx"
#include "sofie/device/session.hxx"

#ifdef SOFIE_DEVICE_CUBLAS
#include <cublas_v2.h>
#endif
#ifdef SOFIE_DEVICE_ROCBLAS
#include <rocblas/rocblas.h>
#endif
#ifdef SOFIE_DEVICE_ONEMATH
#include <oneapi/math.hpp>
#endif
#ifdef SOFIE_DEVICE_CBLAS
#include <cblas.h>
#endif

namespace sofie {
namespace device {

/// y = alpha * a @ b + beta * y of dense matrices, row by row, for each of a batch; a and b may be transposed.
template <class T>
struct Product {
   bool a_transposed, b_transposed;
   int m, n, k;
   T alpha, beta;
   const T *a, *b;
   T *y;
   Index a_step, b_step; ///< From one matrix of the batch to the next; y has none between them.
   int batch;

   int a_row() const { return a_transposed ? m : k; }
   int b_row() const { return b_transposed ? k : n; }
   Index y_step() const { return static_cast<Index>(m) * n; }
};

/// What an adapter has: none. A library is a function `run` for a queue of the adapter, and a Product of T.
template <class Adapter, class T>
struct Library {
   static constexpr bool is_there = false;
};

#ifdef SOFIE_DEVICE_CBLAS
class Serial;

inline void cblas_gemm(const Product<float> &p, const float *a, const float *b, float *y)
{
   cblas_sgemm(CblasRowMajor, p.a_transposed ? CblasTrans : CblasNoTrans, p.b_transposed ? CblasTrans : CblasNoTrans,
               p.m, p.n, p.k, p.alpha, a, p.a_row(), b, p.b_row(), p.beta, y, p.n);
}
inline void cblas_gemm(const Product<double> &p, const double *a, const double *b, double *y)
{
   cblas_dgemm(CblasRowMajor, p.a_transposed ? CblasTrans : CblasNoTrans, p.b_transposed ? CblasTrans : CblasNoTrans,
               p.m, p.n, p.k, p.alpha, a, p.a_row(), b, p.b_row(), p.beta, y, p.n);
}

template <class T>
struct Library<Serial, T> {
   static constexpr bool is_there = std::is_floating_point_v<T>;
   template <class Queue>
   static void run(Queue &, const Product<T> &p)
   {
      for (Index i = 0; i < p.batch; ++i)
         cblas_gemm(p, p.a + i * p.a_step, p.b + i * p.b_step, p.y + i * p.y_step());
   }
};
#endif

// Vendors have matrices column by column: the transposed product of the transposed matrices is the same memory.
#ifdef SOFIE_DEVICE_CUBLAS
struct Vendor {
   using Handle = cublasHandle_t;
   static bool create(Handle *handle) { return cublasCreate(handle) == CUBLAS_STATUS_SUCCESS; }
   static void destroy(Handle handle) { cublasDestroy(handle); }
   template <class Stream>
   static bool direct(Handle handle, Stream stream)
   {
      return cublasSetStream(handle, stream) == CUBLAS_STATUS_SUCCESS;
   }
   static cublasOperation_t turned(bool transposed) { return transposed ? CUBLAS_OP_T : CUBLAS_OP_N; }
   static bool gemm(Handle handle, const Product<float> &p)
   {
      return cublasSgemmStridedBatched(handle, turned(p.b_transposed), turned(p.a_transposed), p.n, p.m, p.k, &p.alpha,
                                       p.b, p.b_row(), p.b_step, p.a, p.a_row(), p.a_step, &p.beta, p.y, p.n,
                                       p.y_step(), p.batch) == CUBLAS_STATUS_SUCCESS;
   }
   static bool gemm(Handle handle, const Product<double> &p)
   {
      return cublasDgemmStridedBatched(handle, turned(p.b_transposed), turned(p.a_transposed), p.n, p.m, p.k, &p.alpha,
                                       p.b, p.b_row(), p.b_step, p.a, p.a_row(), p.a_step, &p.beta, p.y, p.n,
                                       p.y_step(), p.batch) == CUBLAS_STATUS_SUCCESS;
   }
};
#elif defined(SOFIE_DEVICE_ROCBLAS)
struct Vendor {
   using Handle = rocblas_handle;
   static bool create(Handle *handle) { return rocblas_create_handle(handle) == rocblas_status_success; }
   static void destroy(Handle handle) { rocblas_destroy_handle(handle); }
   template <class Stream>
   static bool direct(Handle handle, Stream stream)
   {
      return rocblas_set_stream(handle, stream) == rocblas_status_success;
   }
   static rocblas_operation turned(bool transposed)
   {
      return transposed ? rocblas_operation_transpose : rocblas_operation_none;
   }
   static bool gemm(Handle handle, const Product<float> &p)
   {
      return rocblas_sgemm_strided_batched(handle, turned(p.b_transposed), turned(p.a_transposed), p.n, p.m, p.k,
                                           &p.alpha, p.b, p.b_row(), p.b_step, p.a, p.a_row(), p.a_step, &p.beta, p.y,
                                           p.n, p.y_step(), p.batch) == rocblas_status_success;
   }
   static bool gemm(Handle handle, const Product<double> &p)
   {
      return rocblas_dgemm_strided_batched(handle, turned(p.b_transposed), turned(p.a_transposed), p.n, p.m, p.k,
                                           &p.alpha, p.b, p.b_row(), p.b_step, p.a, p.a_row(), p.a_step, &p.beta, p.y,
                                           p.n, p.y_step(), p.batch) == rocblas_status_success;
   }
};
#endif

#if defined(SOFIE_DEVICE_CUBLAS) || defined(SOFIE_DEVICE_ROCBLAS)
template <class Queue, class Executor>
class Alpaka;

/// The library for one device and one thread, which is made with the first product of the thread.
class VendorContext {
   Vendor::Handle handle_{};

public:
   VendorContext()
   {
      if (!Vendor::create(&handle_))
         throw std::runtime_error("the BLAS of the device cannot be started");
   }
   VendorContext(const VendorContext &) = delete;
   ~VendorContext() { Vendor::destroy(handle_); }
   Vendor::Handle handle() const { return handle_; }
};

template <class Queue, class Executor, class T>
struct Library<Alpaka<Queue, Executor>, T> {
   static constexpr bool is_there = std::is_floating_point_v<T>;
   static void run(Queue &queue, const Product<T> &p)
   {
      static thread_local VendorContext context;
      if (!Vendor::direct(context.handle(), queue.getNativeHandle()) || !Vendor::gemm(context.handle(), p))
         throw std::runtime_error("the BLAS of the device refuses a product");
   }
};
#endif

#ifdef SOFIE_DEVICE_ONEMATH
class Sycl;

template <class T>
struct Library<Sycl, T> {
   static constexpr bool is_there = std::is_floating_point_v<T>;
   template <class Queue>
   static void run(Queue &queue, const Product<T> &p)
   {
      using oneapi::math::transpose;
      oneapi::math::blas::row_major::gemm_batch(queue, p.a_transposed ? transpose::trans : transpose::nontrans,
                                                p.b_transposed ? transpose::trans : transpose::nontrans, p.m, p.n, p.k,
                                                p.alpha, p.a, p.a_row(), p.a_step, p.b, p.b_row(), p.b_step, p.beta,
                                                p.y, p.n, p.y_step(), p.batch);
   }
};
#endif

/// y[i, r, c] = beta * c[r, c]: what a product is added to.
struct Offset {
   double beta;
   Index m, n;
   Sizes<2> strides;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y, const T *c) const
   {
      y[at.index] = static_cast<T>(beta) * c[at.index / n % m * strides[0] + at.index % n * strides[1]];
   }
};

/// y = function(y)
template <class F>
struct Finish {
   F function;

   template <class At, class T>
   SOFIE_DEVICE void operator()(At at, T *y) const
   {
      y[at.index] = function(at.math, y[at.index]);
   }
};

/// The only step between neighbouring matrices of a batch; -1 where there is none, since it is repeated in part.
template <int Batch>
Index step_of(const Sizes<Batch> &batch, const Sizes<Batch> &strides)
{
   Index step = 0, expected = 0;
   bool first = true;
   for (int axis = Batch - 1; axis >= 0; --axis) {
      if (batch[axis] == 1)
         continue;
      if (first)
         step = strides[axis];
      else if (strides[axis] != expected)
         return -1;
      first = false;
      expected = strides[axis] * batch[axis];
   }
   return step;
}

/// Whether neighbours in a row, or in a column, are neighbours in memory.
inline bool is_dense(const Sizes<2> &strides, Index rows, Index columns)
{
   return (strides[1] == 1 && strides[0] == columns) || (strides[0] == 1 && strides[1] == rows);
}

struct Identity;

/// Whether a library has done it.
template <class Adapter, class T, class F, class Tile, int Batch, class... C>
bool by_library(const Adapter &adapter, typename Adapter::Queue &queue, const Gemm<T, F, Tile, Batch> &kernel, T *y,
                const T *a, const T *b, const C *...c)
{
   Index count = 1;
   for (int axis = 0; axis < Batch; ++axis)
      count *= kernel.batch[axis];
   const Index elements = count * kernel.m * kernel.n;
   const Index a_step = step_of(kernel.batch, kernel.a_batch), b_step = step_of(kernel.batch, kernel.b_batch);
   const bool small = kernel.m <= INT_MAX && kernel.n <= INT_MAX && kernel.k <= INT_MAX && count <= INT_MAX;
   if (!small || elements == 0 || kernel.k == 0 || a_step < 0 || b_step < 0 ||
       !is_dense(kernel.a_strides, kernel.m, kernel.k) || !is_dense(kernel.b_strides, kernel.k, kernel.n))
      return false;
   if constexpr (sizeof...(C) != 0)
      items(adapter, queue, elements, Offset{kernel.beta, kernel.m, kernel.n, kernel.c_strides}, y, c...);
   Library<Adapter, T>::run(queue, {kernel.a_strides[1] != 1, kernel.b_strides[1] != 1, static_cast<int>(kernel.m),
                                    static_cast<int>(kernel.n), static_cast<int>(kernel.k),
                                    static_cast<T>(kernel.alpha), static_cast<T>(sizeof...(C) != 0 ? 1 : 0), a, b, y,
                                    a_step, b_step, static_cast<int>(count)});
   if constexpr (!std::is_same_v<F, Identity>)
      items(adapter, queue, elements, Finish<F>{kernel.function}, y);
   return true;
}

/// Enqueues a product of matrices.
template <class Adapter, class T, class F, class Tile, int Batch, class Y, class... Read>
void gemm(const Adapter &adapter, typename Adapter::Queue &queue, Index count, const Gemm<T, F, Tile, Batch> &kernel,
          const Y &y, const Read &...read)
{
   if constexpr (Library<Adapter, T>::is_there)
      if (by_library(adapter, queue, kernel, static_cast<T *>(y), static_cast<const T *>(read)...))
         return;
   groups(adapter, queue, count, kernel, y, read...);
}

} // namespace device
} // namespace sofie

#endif
