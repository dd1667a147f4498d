// linear_cross_entropy 03, wgmma: Hopper's tensor cores, and loads that go on while a tile of logits is weighed.
//
// bfloat16 with float32 sums. A block of two warpgroups makes 128 x 128 of a product, each 64 x 128; TMA brings panels of 64 x 64
// numbers to a ring of four stages, in whichever direction they lie, as in matmul 10. There the ring ends with the tile; here it is
// as long as the slice of the vocabulary: while 128 logits of a row become its maximum and sums, the factors of the next ones come.
// A row of a tile lies in 4 lanes of one warp, which keep three numbers of it, so that shared memory is for factors alone.
//
// The walks are rung 01's, dz and the sums of dx are rounded as in rung 02, whose kernels make the mean and the sums of dz's
// columns.
//
// x, dx: R x C. weight, dweight: C x V, or V x C where `transposed`. bias: V. dz: R x width, for the classes from `first` on.
// Rows of x, weight and dz lie in memory with a multiple of 8 numbers each, the last ones zeros; those of dx and dweight do not.

#include <cuda_bf16.h>

#include "hopper.cuh"
#include "linear_losses.cuh"

constexpr int SIDE = 128, DEPTH = 64, THREADS = 256, STAGES = 4, EACH = 64;  // EACH: numbers of a tile for a thread
constexpr int PANEL = 64 * 128, PANELS = SIDE / 64;  // bytes of one, and how many a factor has
constexpr int STAGE = 2 * PANELS * PANEL;

// 128 rows or columns from i0 on, 64 of k from k0 on; zeros beyond the matrix.
template <bool ALONG_K>
__device__ void load_panels(unsigned char* panels, const TensorMap& matrix, int i0, int k0, Mbarrier* there) {
  for (int p = 0; p < PANELS; p++) {
    const int i = i0 + 64 * p;
    tma_load_2d(panels + p * PANEL, matrix, ALONG_K ? k0 : i, ALONG_K ? i : k0, there);
  }
}

template <bool ALONG_K>
__device__ unsigned long long descriptor(const unsigned char* panels, int k) {
  return wgmma_descriptor(panels + k * (ALONG_K ? 2 : 128), PANEL, 8 * 128);
}

// The thread's i-th number of a tile.
__device__ int row_of(int i) { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8; }
__device__ int column_of(int i) { return i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2; }

// `count` tiles of a b, side by side from (row0, column0) on: done(sums, column) of each. The k-th number of a meets the
// (first + k)-th of b; `depth` are summed up, at least one.
template <bool A_ALONG_K, bool B_ALONG_K, class Done>
__device__ void products(const TensorMap& a, int row0, const TensorMap& b, int column0, int count, int first, int depth,
                         unsigned char* memory, const Done& done) {
  unsigned char* stages = aligned_1024(memory);
  Mbarrier* full = reinterpret_cast<Mbarrier*>(stages + STAGES * STAGE);
  Mbarrier* empty = full + STAGES;
  const int steps = (depth + DEPTH - 1) / DEPTH, tiles = count * steps;

  const auto load = [&](int t) {
    const int s = t % STAGES, k0 = t % steps * DEPTH;
    unsigned char* stage = stages + s * STAGE;
    mbarrier_wait(&empty[s], t / STAGES + 1 & 1);  // the first time round, the phase before phase 0 counts as ended
    mbarrier_arrive_expecting(&full[s], STAGE);
    load_panels<A_ALONG_K>(stage, a, row0, k0, &full[s]);
    load_panels<B_ALONG_K>(stage + PANELS * PANEL, b, column0 + t / steps * SIDE, first + k0, &full[s]);
  };

  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbarrier_init(&full[s], 1);
      mbarrier_init(&empty[s], THREADS / 32);
    }
    mbarrier_init_fence();
  }
  __syncthreads();  // the mbarriers are there
  if (threadIdx.x == 0)
    for (int t = 0; t < STAGES - 1 && t < tiles; t++) load(t);

  float sums[EACH];
  for (int t = 0; t < tiles; t++) {
    const int s = t % STAGES;
    if (threadIdx.x == 0 && t + STAGES - 1 < tiles) load(t + STAGES - 1);  // where step t - 1 was
    if (t % steps == 0)
      for (int i = 0; i < EACH; i++) sums[i] = 0.0f;
    mbarrier_wait(&full[s], t / STAGES & 1);
    const unsigned char* tile_a = stages + s * STAGE + threadIdx.x / 128 * PANEL;
    const unsigned char* tile_b = stages + s * STAGE + PANELS * PANEL;
    wgmma_fence(sums);
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16)
      wgmma_m64n128k16<!A_ALONG_K, !B_ALONG_K>(sums, descriptor<A_ALONG_K>(tile_a, k), descriptor<B_ALONG_K>(tile_b, k));
    wgmma_commit();
    wgmma_wait<0>(sums);
    if (threadIdx.x % 32 == 0) mbarrier_arrive(&empty[s]);  // this warp does not read step t any more
    if (t % steps == steps - 1) done(sums, column0 + t / steps * SIDE);
  }
}

// z = x W for `count` tiles from (row0, column0) on: the same bits on the way forward and back.
template <class Done>
__device__ void logits(const TensorMap& x, const TensorMap& weight, int row0, int column0, int count, int C, int transposed,
                       unsigned char* memory, const Done& done) {
  if (transposed)
    products<true, true>(x, row0, weight, column0, count, 0, C, memory, done);
  else
    products<true, false>(x, row0, weight, column0, count, 0, C, memory, done);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_forward_03_wgmma(float* maxima, float* totals, float* belows, float* of_targets,
                                          const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weight,
                                          const __nv_bfloat16* bias, const int* targets, int R, int C, int V, int slice,
                                          int transposed) {
  extern __shared__ unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, start = blockIdx.y * slice, end = min(V, start + slice);
  Kept kept[2] = {{LOWEST, 0.0f, 0.0f, 0}, {LOWEST, 0.0f, 0.0f, 0}};
  const auto weigh = [&](float(&z)[EACH], int column0) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = row0 + row_of(2 * r), target = row < R ? targets[row] : IGNORED;
      Kept& s = kept[r];
      float larger = s.m;
#pragma unroll
      for (int j = 0; j < EACH / 2; j++) {
        const int i = j / 2 * 4 + 2 * r + j % 2, column = column0 + column_of(i);
        if (column >= V) continue;
        z[i] += __bfloat162float(bias[column]);
        larger = fmaxf(larger, z[i]);
        if (column == target) of_targets[row] = z[i];
      }
      s = raised(s, larger);
#pragma unroll
      for (int j = 0; j < EACH / 2; j++) {
        const int i = j / 2 * 4 + 2 * r + j % 2;
        if (column0 + column_of(i) >= V) continue;
        s.total += expf(z[i] - larger);
        s.below += larger - z[i];
        s.n++;
      }
    }
  };
  logits(x, weight, row0, start, (end - start + SIDE - 1) / SIDE, C, transposed, memory, weigh);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float larger = kept[r].m;
    for (int away = 2; away > 0; away /= 2) larger = fmaxf(larger, __shfl_xor_sync(ALL, larger, away));
    Kept s = raised(kept[r], larger);  // now the 4 lanes of a row mean the same m, and are added
    for (int away = 2; away > 0; away /= 2) {
      s.total += __shfl_xor_sync(ALL, s.total, away);
      s.below += __shfl_xor_sync(ALL, s.below, away);
    }
    const int row = row0 + row_of(2 * r);
    if (threadIdx.x % 4 > 0 || row >= R) continue;
    const size_t at = (size_t)blockIdx.y * R + row;
    maxima[at] = s.m;
    totals[at] = s.total;
    belows[at] = s.below;
  }
}

// The slices of a row become one, and its loss: a thread for each row.
extern "C" __global__ void __launch_bounds__(ROWS)
    linear_cross_entropy_forward_03_rows(float* losses, float* maxima, float* totals, const float* maxima_of,
                                         const float* totals_of, const float* belows_of, const float* of_targets,
                                         const int* targets, float smoothing, int R, int V, int slice) {
  const int row = blockIdx.x * ROWS + threadIdx.x;
  if (row >= R) return;
  row_of_slices(row, losses, maxima, totals, maxima_of, totals_of, belows_of, of_targets, targets, smoothing, R, V, slice);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_03_wgmma(__nv_bfloat16* dz, const __grid_constant__ TensorMap x,
                                      const __grid_constant__ TensorMap weight, const __nv_bfloat16* bias, const int* targets,
                                      const float* maxima, const float* totals, float smoothing, int R, int C, int V, int first,
                                      int width, int transposed) {
  extern __shared__ unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, pitch = (width + 7) / 8 * 8;
  logits(x, weight, row0, first + blockIdx.y * SIDE, 1, C, transposed, memory, [&](const float(&z)[EACH], int column0) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const int row = row0 + row_of(2 * r);
      if (row >= R) continue;
      const int target = targets[row];
      const float m = maxima[row], scale = 1.0f / totals[row];
#pragma unroll
      for (int j = 0; j < EACH / 2; j++) {
        const int i = j / 2 * 4 + 2 * r + j % 2, column = column0 + column_of(i);
        if (column >= first + pitch) continue;
        float slope = 0.0f;  // beyond the last class, too: these are steps of a product
        if (column < first + width && target != IGNORED) {
          const float p = expf(z[i] + __bfloat162float(bias[column]) - m) * scale;
          slope = p - (smoothing / V + (column == target ? 1.0f - smoothing : 0.0f));
        }
        dz[(size_t)row * pitch + column - first] = __float2bfloat16(slope);
      }
    }
  });
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_03_dx(__nv_bfloat16* dx, float* sums, const __grid_constant__ TensorMap dz, const __nv_bfloat16* dy,
                                   const __grid_constant__ TensorMap weight, int count, int R, int C, int V, int first,
                                   int width, int transposed) {
  extern __shared__ unsigned char memory[];
  const int row0 = blockIdx.x * SIDE;
  const float share = __bfloat162float(dy[0]) / count;
  const auto add = [&](const float(&of_chunk)[EACH], int column0) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int row = row0 + row_of(i), column = column0 + column_of(i);
      if (row >= R || column >= C) continue;
      const size_t at = (size_t)row * C + column;
      const float sum = (first > 0 ? sums[at] : 0.0f) + of_chunk[i];
      if (first + width < V)
        sums[at] = sum;
      else
        dx[at] = __float2bfloat16(share * sum);
    }
  };
  if (transposed)
    products<true, false>(dz, row0, weight, blockIdx.y * SIDE, 1, first, width, memory, add);
  else
    products<true, true>(dz, row0, weight, blockIdx.y * SIDE, 1, first, width, memory, add);
}

// dW = x^T dz, or (dW)^T = dz^T x where it is stored so: rows are written side by side either way.
extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_03_dweight(__nv_bfloat16* dweight, const __grid_constant__ TensorMap dz, const __nv_bfloat16* dy,
                                        const __grid_constant__ TensorMap x, int count, int R, int C, int V, int first,
                                        int width, int transposed) {
  extern __shared__ unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, height = transposed ? width : C, length = transposed ? C : width;
  const int pitch = transposed ? C : V;
  const float share = __bfloat162float(dy[0]) / count;
  dweight += transposed ? (size_t)first * C : first;
  const auto store = [&](const float(&sums)[EACH], int column0) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int row = row0 + row_of(i), column = column0 + column_of(i);
      if (row < height && column < length) dweight[(size_t)row * pitch + column] = __float2bfloat16(share * sums[i]);
    }
  };
  products<false, false>(transposed ? dz : x, row0, transposed ? x : dz, blockIdx.y * SIDE, 1, 0, R, memory, store);
}
