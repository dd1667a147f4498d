// What a kernel can call: indices, barriers, shuffles, votes, atomics, and the arithmetic that has names of its own.
//
// `int line = __builtin_LINE()` is the line of the caller: so a wait knows where in the kernel's source it is.
#pragma once
#include "block.hpp"

#define threadIdx (on_cpu::self->index)
#define blockIdx (on_cpu::self->block->index)
#define blockDim (on_cpu::block_size)
#define gridDim (on_cpu::grid_size)
#define warpSize 32

// ---- barriers

static inline void __syncthreads(int line = __builtin_LINE()) { on_cpu::barrier(0, line); }
static inline int __syncthreads_count(int predicate, int line = __builtin_LINE()) { return on_cpu::barrier(predicate, line); }
static inline int __syncthreads_or(int predicate, int line = __builtin_LINE()) { return on_cpu::barrier(predicate, line) != 0; }
static inline int __syncthreads_and(int predicate, int line = __builtin_LINE()) {
  return on_cpu::barrier(predicate, line) == int(on_cpu::count);
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
  int nothing = 0;
  on_cpu::collective(mask, nothing, [](void**, unsigned) {}, line);
}
static inline void __threadfence() {}  // one thread runs at a time, and what it wrote is there
static inline void __threadfence_block() {}

// ---- shuffles: a lane reads the value that another lane brought; from a lane that did not come, all bits are one

namespace on_cpu {
template <class T>
static T shuffle(unsigned mask, T value, unsigned from, int line) {
  struct Payload {
    T value, result;
    unsigned from;
  } mine{value, value, from};
  collective(mask, mine, [](void** payloads, unsigned present) {
    for (unsigned l = 0; l < LANES; l++) {
      if (!(present >> l & 1)) continue;
      Payload& p = *static_cast<Payload*>(payloads[l]);
      if (p.from < LANES && present >> p.from & 1) p.result = static_cast<Payload*>(payloads[p.from])->value;
      else memset(&p.result, 0xff, sizeof(T));
    }
  }, line);
  return mine.result;
}
}  // namespace on_cpu

template <class T>
static T __shfl_sync(unsigned mask, T value, int from, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = on_cpu::self->lane, first = lane / width * width;
  return on_cpu::shuffle(mask, value, first + (unsigned(from) & unsigned(width - 1)), line);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = on_cpu::self->lane;
  return on_cpu::shuffle(mask, value, lane % width >= by ? lane - by : lane, line);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = on_cpu::self->lane;
  return on_cpu::shuffle(mask, value, lane % width + by < unsigned(width) ? lane + by : lane, line);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32, int line = __builtin_LINE()) {
  const unsigned lane = on_cpu::self->lane, other = lane ^ unsigned(with);
  return on_cpu::shuffle(mask, value, other < lane / width * width + width ? other : lane, line);
}

// ---- votes

static inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  struct Payload {
    int predicate;
    unsigned result;
  } mine{predicate, 0};
  on_cpu::collective(mask, mine, [](void** payloads, unsigned present) {
    unsigned yes = 0;
    for (unsigned l = 0; l < 32; l++)
      if (present >> l & 1 && static_cast<Payload*>(payloads[l])->predicate) yes |= 1u << l;
    for (unsigned l = 0; l < 32; l++)
      if (present >> l & 1) static_cast<Payload*>(payloads[l])->result = yes;
  }, line);
  return mine.result;
}
static inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  return __ballot_sync(mask, !predicate, line) == 0;
}

// ---- atomics: nothing comes between, because a thread runs until it waits. T is the pointer's type alone, as in CUDA.

namespace on_cpu {
template <class T> struct Same { using type = T; };
template <class T> using same = typename Same<T>::type;
}  // namespace on_cpu

#define ON_CPU_ATOMIC(name, new_value)                      \
  template <class T>                                        \
  static T name(T* at, on_cpu::same<T> value) {             \
    const T old = *at;                                      \
    *at = new_value;                                        \
    return old;                                             \
  }
ON_CPU_ATOMIC(atomicAdd, old + value)
ON_CPU_ATOMIC(atomicSub, old - value)
ON_CPU_ATOMIC(atomicMax, old < value ? value : old)
ON_CPU_ATOMIC(atomicMin, value < old ? value : old)
ON_CPU_ATOMIC(atomicExch, value)
ON_CPU_ATOMIC(atomicAnd, old & value)
ON_CPU_ATOMIC(atomicOr, old | value)
ON_CPU_ATOMIC(atomicXor, old ^ value)
#undef ON_CPU_ATOMIC
template <class T>
static T atomicCAS(T* at, on_cpu::same<T> expected, on_cpu::same<T> value) {
  const T old = *at;
  if (old == expected) *at = value;
  return old;
}

// ---- arithmetic. The fast versions (__expf ...) are as exact as the others here; the C library has them too, for itself.

template <class T> static inline T __ldg(const T* p) { return *p; }
#define __expf expf
#define __logf logf
#define __sinf sinf
#define __cosf cosf
#define __powf powf
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fadd_rn(float x, float y) { return x + y; }  // on a GPU: never fused with another operation
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
static inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned(uint64_t(x) * y >> 32); }
template <class T> static inline T min(T a, on_cpu::same<T> b) { return b < a ? b : a; }
template <class T> static inline T max(T a, on_cpu::same<T> b) { return a < b ? b : a; }
