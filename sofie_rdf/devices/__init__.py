"""The same models for devices: kernels for alpaka and SYCL, in the queue of whoever calls."""
