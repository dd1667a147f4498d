// mma.sync and cp.async behind the names that ptx.cuh gives them: on a GPU those hold one instruction each.
//
// mma.sync multiplies tiles that are spread over the registers of a warp. Which lane holds which number is written in the PTX
// manual ("Matrix Fragments for mma.m16n8k16"); with group = lane / 4 and member = lane % 4, and two 16-bit numbers in a
// register, lower half first:
//
//     a[i], 16 x 16   row group + 8 (i % 2),  columns 2 member + 8 (i / 2) and the next
//     b[i], 16 x 8    rows 2 member + 8 i and the next,  column group
//     d[i], 16 x 8    row group + 8 (i / 2),  column 2 member + i % 2
//
// m16n8k8 with tf32 has one number a register: a[i] 16 x 8: row group + 8 (i % 2), column member + 4 (i / 2);
// b[i] 8 x 8: row member + 4 i, column group.
#pragma once
#include "device.hpp"

namespace on_cpu {
struct Fragments {
  const unsigned *a, *b;
  float* d;
};

static void multiply(const float (&a)[16][16], const float (&b)[16][8], void** payloads, int depth) {
  for (int l = 0; l < 32; l++)
    for (int i = 0; i < 4; i++) {
      const int row = l / 4 + 8 * (i / 2), column = 2 * (l % 4) + i % 2;
      float sum = static_cast<Fragments*>(payloads[l])->d[i];
      for (int k = 0; k < depth; k++) sum += a[row][k] * b[k][column];
      static_cast<Fragments*>(payloads[l])->d[i] = sum;
    }
}

static inline float bfloat16_number(unsigned bits) { return __bfloat162float({uint16_t(bits)}); }
static inline float half_number(unsigned bits) { return __half2float({uint16_t(bits)}); }

template <float (*number)(unsigned)>
static void mma_of_halves(void** payloads, unsigned) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; l++) {
    const Fragments& f = *static_cast<Fragments*>(payloads[l]);
    for (int h = 0; h < 2; h++) {
      for (int i = 0; i < 4; i++) a[l / 4 + 8 * (i % 2)][2 * (l % 4) + 8 * (i / 2) + h] = number(f.a[i] >> 16 * h & 0xffff);
      for (int i = 0; i < 2; i++) b[2 * (l % 4) + 8 * i + h][l / 4] = number(f.b[i] >> 16 * h & 0xffff);
    }
  }
  multiply(a, b, payloads, 16);
}

static void mma_of_tf32(void** payloads, unsigned) {
  float a[16][16], b[16][8];
  for (int l = 0; l < 32; l++) {  // the 13 low bits of a float32 are not looked at
    const Fragments& f = *static_cast<Fragments*>(payloads[l]);
    for (int i = 0; i < 4; i++) a[l / 4 + 8 * (i % 2)][l % 4 + 4 * (i / 2)] = __uint_as_float(f.a[i] & 0xffffe000u);
    for (int i = 0; i < 2; i++) b[l % 4 + 4 * i][l / 4] = __uint_as_float(f.b[i] & 0xffffe000u);
  }
  multiply(a, b, payloads, 8);
}

static void mma(float* d, const unsigned* a, const unsigned* b, void (*complete)(void**, unsigned), int line) {
  if (warps[self->warp].live != 0xffffffffu) {
    fail("mma.sync in line %d needs all 32 lanes of the warp", line);
    give_up();
  }
  Fragments mine{a, b, d};
  collective(0xffffffffu, mine, complete, line);
}
}  // namespace on_cpu

static inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE()) {
  on_cpu::mma(d, a, b, on_cpu::mma_of_halves<on_cpu::bfloat16_number>, line);
}
static inline void mma_m16n8k16_f16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE()) {
  on_cpu::mma(d, a, b, on_cpu::mma_of_halves<on_cpu::half_number>, line);
}
static inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], int line = __builtin_LINE()) {
  on_cpu::mma(d, a, b, on_cpu::mma_of_tf32, line);
}
static inline unsigned to_tf32(float x) {  // to the nearest, ties away from zero
  return std::isfinite(x) ? (__float_as_uint(x) + 0x1000u) & 0xffffe000u : __float_as_uint(x);
}

// ---- ldmatrix: four matrices of 8 x 8; lane l names row l % 8 of matrix l / 8

namespace on_cpu {
struct Rows {
  const uint16_t* row;
  unsigned* r;
};
template <bool transposed>
static void ldmatrix_of_lanes(void** payloads, unsigned) {
  uint16_t rows[LANES][8];
  for (unsigned l = 0; l < LANES; l++) memcpy(rows[l], static_cast<Rows*>(payloads[l])->row, 16);
  for (unsigned l = 0; l < LANES; l++)
    for (unsigned i = 0; i < 4; i++) {
      const unsigned y = l / 4, x = l % 4 * 2;
      const unsigned low = transposed ? rows[8 * i + x][y] : rows[8 * i + y][x];
      const unsigned high = transposed ? rows[8 * i + x + 1][y] : rows[8 * i + y][x + 1];
      static_cast<Rows*>(payloads[l])->r[i] = low | high << 16;
    }
}
static void ldmatrix(unsigned* r, const void* row, void (*complete)(void**, unsigned), int line) {
  if (warps[self->warp].live != 0xffffffffu || reinterpret_cast<size_t>(row) % 16) {
    fail("ldmatrix in line %d needs all 32 lanes of the warp, and rows at multiples of 16 bytes", line);
    give_up();
  }
  Rows mine{static_cast<const uint16_t*>(row), r};
  collective(0xffffffffu, mine, complete, line);
}
}  // namespace on_cpu

static inline void ldmatrix_x4(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) {
  on_cpu::ldmatrix(r, row, on_cpu::ldmatrix_of_lanes<false>, line);
}
static inline void ldmatrix_x4_transposed(unsigned (&r)[4], const void* row, int line = __builtin_LINE()) {
  on_cpu::ldmatrix(r, row, on_cpu::ldmatrix_of_lanes<true>, line);
}

// ---- cp.async: a copy that is only there after its group was waited for. Half of the schedules make it at once (which shows
// a write into what others still read), half only at the wait (which shows a read that came too early).

namespace on_cpu {
static void finish(const Copy& c) {
  char* to = static_cast<char*>(c.to);
  for (unsigned i = 0; i < c.room; i++) to[i] = i < c.bytes ? static_cast<const char*>(c.from)[i] : 0;
}
}  // namespace on_cpu

static inline void cp_async_16(void* to, const void* from, unsigned bytes = 16, int line = __builtin_LINE()) {
  using namespace on_cpu;
  if ((reinterpret_cast<size_t>(to) | reinterpret_cast<size_t>(from)) % 16) {
    fail("cp.async in line %d copies 16 bytes from or to an address that is no multiple of 16", line);
    give_up();
  }
  const Copy copy{to, from, bytes, 16, self->group};
  if (schedule % 2 == 0) return finish(copy);
  if (self->copying == sizeof self->copies / sizeof self->copies[0]) {
    fail("cp.async in line %d: a thread has more than 64 copies under way, which is more than the emulator keeps", line);
    give_up();
  }
  self->copies[self->copying++] = copy;
}
static inline void cp_async_commit() { on_cpu::self->group++; }
template <int pending>
static inline void cp_async_wait() {  // all but the last `pending` groups have arrived
  using namespace on_cpu;
  unsigned kept = 0;
  for (unsigned i = 0; i < self->copying; i++) {
    if (self->copies[i].group + pending < self->group) finish(self->copies[i]);
    else self->copies[kept++] = self->copies[i];
  }
  self->copying = kept;
}
