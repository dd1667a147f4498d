// The words and types of CUDA C++ that are no more than names: qualifiers, dim3, float4 and its kin, bfloat16 and half.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __grid_constant__

// All shared variables lie in one section of the library, so that a block can find and poison them before it starts.
#define __shared__ static __attribute__((section("cuda_shared")))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

#define ON_CPU_VECTORS(T, name)                                              \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                         \
  struct name##3 { T x, y, z; };                                             \
  struct alignas(sizeof(T) < 4 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  static inline name##2 make_##name##2(T x, T y) { return {x, y}; }          \
  static inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }  \
  static inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
ON_CPU_VECTORS(float, float)
ON_CPU_VECTORS(double, double)
ON_CPU_VECTORS(int, int)
ON_CPU_VECTORS(unsigned, uint)
ON_CPU_VECTORS(short, short)
ON_CPU_VECTORS(unsigned char, uchar)
#undef ON_CPU_VECTORS

template <class To, class From>
static inline To on_cpu_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits as before");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline unsigned __float_as_uint(float x) { return on_cpu_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return on_cpu_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return on_cpu_bits<float>(x); }
static inline float __int_as_float(int x) { return on_cpu_bits<float>(x); }

struct __nv_bfloat16 { uint16_t bits; };
struct alignas(4) __nv_bfloat162 { __nv_bfloat16 x, y; };
struct __half { uint16_t bits; };
struct alignas(4) __half2 { __half x, y; };
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

static inline float __bfloat162float(__nv_bfloat16 b) { return __uint_as_float(unsigned(b.bits) << 16); }
static inline __nv_bfloat16 __float2bfloat16(float x) {  // to the nearest, ties to even; NaN stays NaN
  unsigned u = __float_as_uint(x);
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __float2bfloat16(x); }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16(x), __float2bfloat16(y)}; }
static inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {__bfloat162float(v.x), __bfloat162float(v.y)}; }

static inline float __half2float(__half h) {
  const unsigned sign = unsigned(h.bits & 0x8000) << 16, exponent = h.bits >> 10 & 31, fraction = h.bits & 1023;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000 | fraction << 13);
  const float size = exponent ? ldexpf(float(1024 + fraction), int(exponent) - 25) : ldexpf(float(fraction), -24);
  return sign ? -size : size;
}
static inline __half __float2half(float x) {  // to the nearest, ties to even; beyond 65504 infinity
  const uint16_t sign = uint16_t(__float_as_uint(x) >> 16 & 0x8000);
  if (std::isnan(x)) return {0x7fff};
  const float size = fabsf(x);
  if (size >= 65520.0f) return {uint16_t(sign | 0x7c00)};
  int exponent;
  frexpf(size, &exponent);                                      // size in [2^(exponent-1), 2^exponent)
  if (size == 0.0f || exponent < -13) return {uint16_t(sign | unsigned(nearbyintf(ldexpf(size, 24))))};  // subnormal
  const unsigned fraction = unsigned(nearbyintf(ldexpf(size, 11 - exponent)));           // 1024 .. 2048
  return {uint16_t(sign | ((unsigned(exponent + 14) << 10) + fraction - 1024))};
}
static inline __half __float2half_rn(float x) { return __float2half(x); }
static inline __half2 __floats2half2_rn(float x, float y) { return {__float2half(x), __float2half(y)}; }
static inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
