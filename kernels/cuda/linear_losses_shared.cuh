// What rungs 01 and 02 of linear_cross_entropy do in shared memory: what threads kept of a row becomes a slice's, and the mean.
#pragma once

#include "linear_losses.cuh"

constexpr int WARPS = ROWS / 32;

// of_row: what so many threads kept of one row; it goes to place `at`.
__device__ inline void slice_of_row(const Kept* of_row, int shares, size_t at, float* maxima, float* totals, float* belows) {
  float larger = of_row[0].m, total = 0.0f, below = 0.0f;
  for (int t = 1; t < shares; t++) larger = fmaxf(larger, of_row[t].m);
  for (int t = 0; t < shares; t++) {
    const Kept s = raised(of_row[t], larger);
    total += s.total;
    below += s.below;
  }
  maxima[at] = larger;
  totals[at] = total;
  belows[at] = below;
}

// The mean in thread 0 of a block of ROWS, by way of `sums` (WARPS) in shared memory.
__device__ inline float mean_of(const float* losses, int count, int R, float* sums) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < R; i += ROWS) sum += losses[i];
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();  // every warp's sum is there
  for (int w = 1; w < WARPS; w++) sum += sums[w];
  return sum / count;
}
