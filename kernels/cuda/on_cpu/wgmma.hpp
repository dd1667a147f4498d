// wgmma: the four warps of a warpgroup multiply 64 x 16 by 16 x N; a and b lie in shared memory, the sums in registers.
//
// Warp w has rows 16 w to 16 w + 15. With group = lane / 4 and member = lane % 4 a lane holds
//
//     d[i], 64 x N    row 16 w + group + 8 (i / 2 % 2),  column 8 (i / 4) + 2 member + i % 2
//     a[i], 64 x 16   row 16 w + group + 8 (i % 2),  columns 2 member + 8 (i / 2) and the next (where a is in registers)
//
// A descriptor says where a tile begins and how far its pieces are from each other: 16-byte units, 14 bits each, at bits 0
// (start), 16 (leading), 32 (stride); 1 at bit 62 is the 128-byte swizzle. Tiles begin at multiples of 1024 bytes, and rows have
// 128 bytes. Where rows run along k (not transposed): row r is at (r / 8) stride + 128 (r % 8), and the start moves along the row,
// 32 bytes for each 16 of k. Where they run along M or N (transposed): k is at (k / 8) stride + 128 (k % 8), and each 64 rows of
// M or N are `leading` from the last.
//
// Half of the schedules multiply at once (which shows operands that are not there yet), half at the wait (which shows operands
// that were overwritten, and sums that were read too early); each half has schedules in which TMA copies late, and at once. Each
// warp multiplies by itself, when its own lanes have come.
#pragma once
#include "tma.hpp"

namespace on_cpu {
struct Multiply {
  float* d[LANES];
  unsigned a[LANES][4];           // from registers, if a_in_registers
  uint64_t of_a, of_b;
  unsigned N, group;
  bool a_in_registers, a_transposed, b_transposed;
  int line;
};

struct Multiplies {               // of a warp
  Multiply waiting[32];
  unsigned many, group, made;     // not multiplied yet; group under way; how many there were
  bool fenced;
};
static Multiplies multiplies[PLACES / LANES];

static bool multiplies_late() { return schedule == reverse || schedule == greedy_reverse || schedule == seeded + 1; }

static void reset_multiplies() {
  for (unsigned w = 0; w < places / LANES; w++) {
    multiplies[w].many = multiplies[w].group = multiplies[w].made = 0;
    multiplies[w].fenced = false;
  }
}

static void check_multiplies() {  // at the end of a cluster
  for (unsigned w = 0; w < places / LANES; w++) {
    const unsigned first = w - w % (places / together / LANES) % 4;
    if (multiplies[w].made != multiplies[first].made)
      return fail("a warpgroup does not go together: its first warp executes %u wgmma, another one %u", multiplies[first].made,
                  multiplies[w].made);
    if (multiplies[w].many)
      return fail("the block ends, and nobody has waited for the wgmma in line %d", multiplies[w].waiting[0].line);
  }
}

// Number (i, k) of a tile, i along M or N.
static float tile_number(const Block& b, uint64_t descriptor, bool transposed, unsigned i, unsigned k) {
  const unsigned start = unsigned(descriptor & 0x3fff) << 4, leading = unsigned(descriptor >> 16 & 0x3fff) << 4;
  const unsigned stride = unsigned(descriptor >> 32 & 0x3fff) << 4;
  const unsigned at = transposed ? k / 8 * stride + k % 8 * 128 + i / 64 * leading + i % 64 * 2
                                 : i / 8 * stride + i % 8 * 128 + k * 2;
  const char* p = b.window + swizzle(start + at);
  if (p < b.memory || p + 2 > b.memory + dynamic_bytes) {
    failed = true;
    return 0.0f;
  }
  uint16_t bits;
  memcpy(&bits, p, 2);
  return __bfloat162float({bits});
}

using Four = float __attribute__((vector_size(16)));

static void multiply_now(const Multiply& m, const Block& block, unsigned warp) {
  float a[16][16];
  Four b[16][64];
  for (unsigned i = 0; i < 16; i++)
    for (unsigned k = 0; k < 16 && !m.a_in_registers; k++)
      a[i][k] = tile_number(block, m.of_a, m.a_transposed, warp % 4 * 16 + i, k);
  for (unsigned l = 0; l < LANES && m.a_in_registers; l++)
    for (unsigned i = 0; i < 4; i++)
      for (unsigned h = 0; h < 2; h++)
        a[l / 4 + 8 * (i % 2)][2 * (l % 4) + 8 * (i / 2) + h] = __bfloat162float({uint16_t(m.a[l][i] >> 16 * h)});
  for (unsigned n = 0; n < m.N; n++)
    for (unsigned k = 0; k < 16; k++) b[k][n / 4][n % 4] = tile_number(block, m.of_b, m.b_transposed, n, k);
  if (failed) return fail("a descriptor of the wgmma in line %d reaches beyond the shared memory of the block", m.line);
  for (unsigned row = 0; row < 16; row++) {
    const auto at = [&](unsigned n) -> float& { return m.d[row % 8 * 4 + n % 8 / 2][n / 8 * 4 + row / 8 * 2 + n % 2]; };
    for (unsigned n = 0; n < m.N; n += 4) {
      Four sums = {at(n), at(n + 1), at(n + 2), at(n + 3)};
      for (unsigned k = 0; k < 16; k++) sums += a[row][k] * b[k][n / 4];
      for (unsigned j = 0; j < 4; j++) at(n + j) = sums[j];
    }
  }
}

static void wgmma_of_lanes(void** payloads, unsigned) {  // by the last lane to come
  const unsigned warp = self->warp;
  Multiplies& all = multiplies[warp];
  Multiply m = *static_cast<Multiply*>(payloads[0]);
  for (unsigned l = 0; l < LANES; l++) {
    const Multiply& theirs = *static_cast<Multiply*>(payloads[l]);
    m.d[l] = theirs.d[0];
    memcpy(m.a[l], theirs.a[0], sizeof m.a[l]);
    if (theirs.of_b != m.of_b || theirs.of_a != m.of_a)
      return fail("the lanes of a warp give different descriptors to the wgmma in line %d", m.line);
  }
  m.group = all.group;
  all.made++;
  if (!all.fenced) return fail("the wgmma in line %d comes without a wgmma_fence since the start, or since the last wait", m.line);
  if (!multiplies_late()) return multiply_now(m, *self->block, warp);
  if (all.many == sizeof all.waiting / sizeof all.waiting[0])
    return fail("the wgmma in line %d: more than 32 are under way, which is more than the emulator keeps", m.line);
  all.waiting[all.many++] = m;
}

static void wait_of_lanes(void** payloads, unsigned) {
  Multiplies& all = multiplies[self->warp];
  unsigned kept = 0;
  for (unsigned i = 0; i < all.many && !failed; i++) {
    if (all.waiting[i].group + *static_cast<unsigned*>(payloads[0]) < all.group)
      multiply_now(all.waiting[i], *self->block, self->warp);
    else all.waiting[kept++] = all.waiting[i];
  }
  all.many = kept;
  all.fenced = false;
}

static void fence_of_lanes(void**, unsigned) { multiplies[self->warp].fenced = true; }
static void commit_of_lanes(void**, unsigned) { multiplies[self->warp].group++; }

static void wgmma(float* d, const unsigned* a, uint64_t of_a, uint64_t of_b, unsigned N, bool a_transposed, bool b_transposed,
                  int line) {
  if (count % 128) {
    fail("wgmma in line %d needs whole warpgroups, and the block has %u threads", line, count);
    give_up();
  }
  for (uint64_t descriptor : {a ? of_b : of_a, of_b})
    if (descriptor >> 61 != 2 || descriptor & 0x38) {  // the swizzle of 128 bytes, from the first of 8 rows on
      fail("wgmma in line %d: a descriptor is not of the 128-byte swizzle, or its tile does not begin at a multiple of 1024", line);
      give_up();
    }
  Multiply mine;
  mine.d[0] = d;
  mine.of_a = of_a;
  mine.of_b = of_b;
  mine.N = N;
  mine.a_in_registers = a;
  mine.a_transposed = a_transposed;
  mine.b_transposed = b_transposed;
  mine.line = line;
  if (a) memcpy(mine.a[0], a, sizeof mine.a[0]);
  collective(0xffffffffu, mine, wgmma_of_lanes, line);
}
}  // namespace on_cpu

static inline unsigned long long wgmma_descriptor(const void* tile, unsigned leading, unsigned stride,
                                                  int line = __builtin_LINE()) {
  const unsigned start = on_cpu::shared_address(tile, "the tile of a descriptor", line);
  return (unsigned long long)(start >> 4 & 0x3fff) | (unsigned long long)(leading >> 4 & 0x3fff) << 16 |
         (unsigned long long)(stride >> 4 & 0x3fff) << 32 | 1ull << 62;
}
template <int n>
static inline void wgmma_fence(float (&)[n], int line = __builtin_LINE()) {
  int nothing = 0;
  on_cpu::collective(0xffffffffu, nothing, on_cpu::fence_of_lanes, line);
}
static inline void wgmma_commit(int line = __builtin_LINE()) {
  int nothing = 0;
  on_cpu::collective(0xffffffffu, nothing, on_cpu::commit_of_lanes, line);
}
template <int pending, int n>
static inline void wgmma_wait(float (&)[n], int line = __builtin_LINE()) {  // all but the last `pending` groups are there
  unsigned kept = pending;
  on_cpu::collective(0xffffffffu, kept, on_cpu::wait_of_lanes, line);
}
template <bool a_transposed, bool b_transposed>
static inline void wgmma_m64n64k16(float (&d)[32], unsigned long long a, unsigned long long b, int line = __builtin_LINE()) {
  on_cpu::wgmma(d, nullptr, a, b, 64, a_transposed, b_transposed, line);
}
template <bool b_transposed>
static inline void wgmma_m64n64k16(float (&d)[32], const unsigned (&a)[4], unsigned long long b, int line = __builtin_LINE()) {
  on_cpu::wgmma(d, a, 0, b, 64, false, b_transposed, line);
}
template <bool a_transposed, bool b_transposed>
static inline void wgmma_m64n128k16(float (&d)[64], unsigned long long a, unsigned long long b, int line = __builtin_LINE()) {
  on_cpu::wgmma(d, nullptr, a, b, 128, a_transposed, b_transposed, line);
}
template <bool b_transposed>
static inline void wgmma_m64n128k16(float (&d)[64], const unsigned (&a)[4], unsigned long long b, int line = __builtin_LINE()) {
  on_cpu::wgmma(d, a, 0, b, 128, false, b_transposed, line);
}
template <bool a_transposed, bool b_transposed>
static inline void wgmma_m64n256k16(float (&d)[128], unsigned long long a, unsigned long long b, int line = __builtin_LINE()) {
  on_cpu::wgmma(d, nullptr, a, b, 256, a_transposed, b_transposed, line);
}
template <bool b_transposed>
static inline void wgmma_m64n256k16(float (&d)[128], const unsigned (&a)[4], unsigned long long b, int line = __builtin_LINE()) {
  on_cpu::wgmma(d, a, 0, b, 256, false, b_transposed, line);
}
