// matmul 10, tma: one thread asks for whole tiles, and a ring of stages is filled while others are multiplied.
//
// Nobody computes addresses: the tensor map says where the matrix lies, how it is swizzled and that there are zeros beyond it.
// Stage s has two mbarriers: `full` ends a phase when the bytes of a tile are there, `empty` when all warps have multiplied it.
// Tile t lies in stage t % STAGES and is the (t / STAGES)-th there: that number's last bit is the phase to wait for. Otherwise as
// rung 09: 64 x 128 of c for each of two warpgroups, panels of 64 x 64 numbers.

#include <cuda_bf16.h>

#include "hopper.cuh"

constexpr int ROWS = 128, COLUMNS = 128, DEPTH = 64, THREADS = 256, STAGES = 4;
constexpr int PANEL = 64 * 128;  // bytes
constexpr int STAGE = (ROWS + COLUMNS) / 64 * PANEL;

// Panels that cover `width` of M or N from i0 on, and 64 of k from k0 on; zeros beyond the matrix.
template <bool ALONG_K>
__device__ void load_panels(unsigned char* panels, const TensorMap& matrix, int i0, int k0, int width, Mbarrier* there) {
  for (int p = 0; p < width / 64; p++) {
    const int i = i0 + 64 * p;
    tma_load_2d(panels + p * PANEL, matrix, ALONG_K ? k0 : i, ALONG_K ? i : k0, there);
  }
}

template <bool ALONG_K>
__device__ unsigned long long descriptor(const unsigned char* panels, int k) {
  return wgmma_descriptor(panels + k * (ALONG_K ? 2 : 128), PANEL, 8 * 128);
}

template <bool A_ALONG_K, bool B_ALONG_K>
__device__ void product(__nv_bfloat16* c, const TensorMap& a, const TensorMap& b, int M, int K, int N, unsigned char* memory) {
  unsigned char* stages = aligned_1024(memory);
  Mbarrier* full = reinterpret_cast<Mbarrier*>(stages + STAGES * STAGE);
  Mbarrier* empty = full + STAGES;
  const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  float sums[64] = {};
  const int tiles = (K + DEPTH - 1) / DEPTH;

  const auto load = [&](int t) {
    const int s = t % STAGES;
    unsigned char* stage = stages + s * STAGE;
    mbarrier_wait(&empty[s], t / STAGES + 1 & 1);  // the first time round, the phase before phase 0 counts as ended
    mbarrier_arrive_expecting(&full[s], STAGE);
    load_panels<A_ALONG_K>(stage, a, row0, t * DEPTH, ROWS, &full[s]);
    load_panels<B_ALONG_K>(stage + ROWS / 64 * PANEL, b, column0, t * DEPTH, COLUMNS, &full[s]);
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

  for (int t = 0; t < tiles; t++) {
    const int s = t % STAGES;
    if (threadIdx.x == 0 && t + STAGES - 1 < tiles) load(t + STAGES - 1);  // where tile t - 1 was
    mbarrier_wait(&full[s], t / STAGES & 1);
    const unsigned char* tile_a = stages + s * STAGE + warpgroup * PANEL;
    const unsigned char* tile_b = stages + s * STAGE + ROWS / 64 * PANEL;
    wgmma_fence(sums);
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16)
      wgmma_m64n128k16<!A_ALONG_K, !B_ALONG_K>(sums, descriptor<A_ALONG_K>(tile_a, k), descriptor<B_ALONG_K>(tile_b, k));
    wgmma_commit();
    wgmma_wait<0>(sums);
    if (lane == 0) mbarrier_arrive(&empty[s]);  // this warp does not read tile t any more
  }

#pragma unroll
  for (int i = 0; i < 64; i += 2) {
    const int row = row0 + 64 * warpgroup + 16 * warp + lane / 4 + i / 2 % 2 * 8;
    const int column = column0 + i / 4 * 8 + lane % 4 * 2;
    if (row < M && column < N)
      *reinterpret_cast<__nv_bfloat162*>(c + (size_t)row * N + column) = __floats2bfloat162_rn(sums[i], sums[i + 1]);
  }
}

// c (M, N) of a (M, K) and b (K, N).
extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_forward_10_tma(__nv_bfloat16* c, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                          int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, false>(c, a, b, M, K, N, memory);
}

// The gradient of a: of dc (M, K) and b (N, K), transposed.
extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_vjp_a_10_tma(__nv_bfloat16* da, const __grid_constant__ TensorMap dc, const __grid_constant__ TensorMap b,
                        int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, true>(da, dc, b, M, K, N, memory);
}

// The gradient of b: of a (K, M), transposed, and dc (K, N).
extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_vjp_b_10_tma(__nv_bfloat16* db, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap dc,
                        int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<false, false>(db, a, dc, M, K, N, memory);
}
