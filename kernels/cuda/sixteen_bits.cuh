// The two types of 16 bits that mma.sync multiplies with float32 sums: how they are multiplied, rounded and read.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ptx.cuh"

template <class T>
struct Type;

template <>
struct Type<__nv_bfloat16> {
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k16_bf16(d, a, b); }
  static __device__ __nv_bfloat16 rounded(float x) { return __float2bfloat16(x); }
  static __device__ float number(__nv_bfloat16 x) { return __bfloat162float(x); }
  static __device__ unsigned pair(float x, float y) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const unsigned*>(&both);
  }
};

template <>
struct Type<__half> {
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k16_f16(d, a, b); }
  static __device__ __half rounded(float x) { return __float2half(x); }
  static __device__ float number(__half x) { return __half2float(x); }
  static __device__ unsigned pair(float x, float y) {
    const __half2 both = __floats2half2_rn(x, y);
    return *reinterpret_cast<const unsigned*>(&both);
  }
};
