// What attention's rungs on Hopper share: tiles that TMA brings, products of warpgroups, and what a thread does to its part of a
// tile: hide, weigh, round, store.
//
// wgmma leaves number i of a thread's part of a tile in row group + 8 (i / 2 % 2) of its warp and in column 8 (i / 4) + 2 member
// + i % 2, with group = lane / 4 and member = lane % 4. Two neighbours, rounded to bfloat16, are then in the very lane that must
// bring them as the left factor of the next product.
#pragma once

#include <cuda_bf16.h>

#include "attention.cuh"
#include "hopper.cuh"

constexpr float LOG2_E = 1.4426950408889634f;
constexpr int OWNED = 128;      // rows of a block
constexpr int BOX = 64 * 128;   // bytes of 64 rows of 64 numbers, which is what one load copies

// Keys of a walked tile on the way forward. With a head_dim of 256 the sums alone are 128 registers a thread, and two stages of
// 128 keys and values 256 KB: then half as many.
template <int HEAD_DIM>
constexpr int KEYS_OF = HEAD_DIM == 256 ? 64 : 128;

// Of a head in lse and inner.
__device__ size_t queries(const Problem& of) { return (of.T + OWNED - 1) / OWNED * OWNED; }

// A tile lies as HEAD_DIM / 64 panels of 64 columns, ROWS rows of 128 bytes each.
template <int ROWS, int HEAD_DIM>
__device__ void load_tile(unsigned char* tile, const TensorMap& heads, int row, int head, Mbarrier* there) {
  for (int p = 0; p < HEAD_DIM / 64; p++)
    for (int r = 0; r < ROWS; r += 64) tma_load_3d(tile + p * ROWS * 128 + r * 128, heads, 64 * p, row + r, head, there);
}

// d += 64 rows of `a` times the rows of `b`, whose tiles have A_ROWS and B_ROWS.
template <int HEAD_DIM, int A_ROWS, int B_ROWS, int n>
__device__ void add_dots(float (&d)[n], const unsigned char* a, const unsigned char* b) {
#pragma unroll
  for (int k = 0; k < HEAD_DIM; k += 16) {
    const unsigned long long of_a = wgmma_descriptor(a + k / 64 * A_ROWS * 128 + k % 64 * 2, 0, 8 * 128);
    const unsigned long long of_b = wgmma_descriptor(b + k / 64 * B_ROWS * 128 + k % 64 * 2, 0, 8 * 128);
    if constexpr (n == 32) wgmma_m64n64k16<false, false>(d, of_a, of_b);
    else wgmma_m64n128k16<false, false>(d, of_a, of_b);
  }
}

// d += weights times the ROWS rows of `b`.
template <int ROWS, int n>
__device__ void add_product(float (&d)[n], const unsigned (&weights)[ROWS / 16][4], const unsigned char* b) {
#pragma unroll
  for (int k = 0; k < ROWS; k += 16) {
    const unsigned long long of_b = wgmma_descriptor(b + k * 128, ROWS * 128, 8 * 128);
    if constexpr (n == 32) wgmma_m64n64k16<true>(d, weights[k / 16], of_b);
    else if constexpr (n == 64) wgmma_m64n128k16<true>(d, weights[k / 16], of_b);
    else wgmma_m64n256k16<true>(d, weights[k / 16], of_b);
  }
}

// Weights as the left factor of a product: two neighbours in a register.
template <int n>
__device__ void pack(unsigned (&packed)[n / 8][4], const float (&weights)[n]) {
#pragma unroll
  for (int i = 0; i < n; i += 2) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(weights[i], weights[i + 1]);
    packed[i / 8][i / 2 % 4] = *reinterpret_cast<const unsigned*>(&both);
  }
}

// s times `octaves`, and -infinity in columns, which count from column0, that are hidden from their row: before `low`, beyond
// `high` (of the thread's first row; both rise by one a row) or from `columns` on.
template <int n>
__device__ void scale_and_hide(float (&s)[n], float octaves, int column0, int low, int high, int columns) {
  const int group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < n; i++) s[i] *= octaves;
  if (low - group + 15 <= column0 && column0 + 2 * n - 1 <= high - group && column0 + 2 * n <= columns) return;  // of all 16 rows
#pragma unroll
  for (int i = 0; i < n; i++) {
    const int column = column0 + i / 4 * 8 + 2 * member + i % 2, below = i / 2 % 2 * 8;
    if (column < low + below || column > high + below || column >= columns) s[i] = -infinity();
  }
}

// -infinity where the mask has a 0, which is null where there is none. It has `rows` x `columns` bytes, `to_row` from a row to the
// next, `to_column` from a column to the next. row: the thread's first one; columns count from column0.
template <int n>
__device__ void hide_masked(float (&s)[n], const unsigned char* mask, int row, int column0, int rows, int columns, long long to_row,
                            long long to_column) {
  if (!mask) return;
  const int member = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < n; i++) {
    const int column = column0 + i / 4 * 8 + 2 * member + i % 2, at = row + i / 2 % 2 * 8;
    if (at < rows && column < columns && !mask[at * to_row + column * to_column]) s[i] = -infinity();
  }
}

// Scores become weights 2^(s - m) with the largest score m so far; `total` sums them, and what was summed before shrinks.
template <int n>
__device__ void weigh(float (&s)[n], float (&m)[2], float (&total)[2], float (&shrink)[2]) {
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float larger = m[r];
#pragma unroll
    for (int i = 2 * r; i < n; i += 4) larger = fmaxf(larger, fmaxf(s[i], s[i + 1]));
    for (int away = 2; away > 0; away /= 2) larger = fmaxf(larger, __shfl_xor_sync(ALL, larger, away));
    shrink[r] = exp2f(m[r] - larger);
    m[r] = larger;
    total[r] *= shrink[r];
#pragma unroll
    for (int i = 2 * r; i < n; i += 4) {
      s[i] = exp2f(s[i] - larger);
      s[i + 1] = exp2f(s[i + 1] - larger);
      total[r] += s[i] + s[i + 1];
    }
  }
}

// The thread's numbers of 64 x HEAD_DIM sums, times a factor for each of its two rows, of which those before `last` are stored.
template <int n>
__device__ void store(__nv_bfloat16* rows, const float (&sums)[n], const float (&factor)[2], int row, int last, int D) {
  const int member = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < n; i += 2) {
    const int r = i / 2 % 2, column = i / 4 * 8 + 2 * member;
    if (row + 8 * r < last && column < D)
      *reinterpret_cast<__nv_bfloat162*>(rows + (size_t)(row + 8 * r) * D + column) =
          __floats2bfloat162_rn(sums[i] * factor[r], sums[i + 1] * factor[r]);
  }
}
