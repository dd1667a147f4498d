// matmul 11, warp specialised: one warpgroup does nothing but ask for tiles, two do nothing but multiply.
//
// The producer runs ahead of the consumers as far as the ring allows, across tiles of c too: a block stays and makes every
// gridDim.x-th tile, so that the next one's panels arrive while this one is written. The producer gives its registers to the
// consumers, which have room for 64 x 256 sums each: 128 x 256 of c for a block, whose panels are read half as often from memory
// as in rung 10. `n` counts tiles of k through all tiles of c.

#include <cuda_bf16.h>

#include "hopper.cuh"

constexpr int ROWS = 128, COLUMNS = 256, DEPTH = 64, THREADS = 384, STAGES = 4;
constexpr int CONSUMERS = 2;     // warpgroups; the first one of the block is the producer
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
  const int depths = (K + DEPTH - 1) / DEPTH, across = (N + COLUMNS - 1) / COLUMNS;
  const int tiles = (M + ROWS - 1) / ROWS * across;
  int n = 0;

  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbarrier_init(&full[s], 1);
      mbarrier_init(&empty[s], CONSUMERS * 4);  // warps
    }
    mbarrier_init_fence();
  }
  __syncthreads();  // the mbarriers are there

  if (threadIdx.x < 128) {
    registers_give<40>();
    if (threadIdx.x != 0) return;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x)
      for (int t = 0; t < depths; t++, n++) {
        const int s = n % STAGES;
        unsigned char* stage = stages + s * STAGE;
        mbarrier_wait(&empty[s], n / STAGES + 1 & 1);  // the first time round, the phase before phase 0 counts as ended
        mbarrier_arrive_expecting(&full[s], STAGE);
        load_panels<A_ALONG_K>(stage, a, tile / across * ROWS, t * DEPTH, ROWS, &full[s]);
        load_panels<B_ALONG_K>(stage + ROWS / 64 * PANEL, b, tile % across * COLUMNS, t * DEPTH, COLUMNS, &full[s]);
      }
  } else {
    registers_take<232>();
    const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const int row0 = tile / across * ROWS, column0 = tile % across * COLUMNS;
      float sums[128] = {};
      for (int t = 0; t < depths; t++, n++) {
        const int s = n % STAGES;
        mbarrier_wait(&full[s], n / STAGES & 1);
        const unsigned char* tile_a = stages + s * STAGE + warpgroup * PANEL;
        const unsigned char* tile_b = stages + s * STAGE + ROWS / 64 * PANEL;
        wgmma_fence(sums);
#pragma unroll
        for (int k = 0; k < DEPTH; k += 16)
          wgmma_m64n256k16<!A_ALONG_K, !B_ALONG_K>(sums, descriptor<A_ALONG_K>(tile_a, k), descriptor<B_ALONG_K>(tile_b, k));
        wgmma_commit();
        wgmma_wait<0>(sums);
        if (lane == 0) mbarrier_arrive(&empty[s]);  // this warp does not read stage s any more
      }
#pragma unroll
      for (int i = 0; i < 128; i += 2) {
        const int row = row0 + 64 * warpgroup + 16 * warp + lane / 4 + i / 2 % 2 * 8;
        const int column = column0 + i / 4 * 8 + lane % 4 * 2;
        if (row < M && column < N)
          *reinterpret_cast<__nv_bfloat162*>(c + (size_t)row * N + column) = __floats2bfloat162_rn(sums[i], sums[i + 1]);
      }
    }
  }
}

// c (M, N) of a (M, K) and b (K, N).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    matmul_forward_11_warp_specialised(__nv_bfloat16* c, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                                       int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, false>(c, a, b, M, K, N, memory);
}

// The gradient of a: of dc (M, K) and b (N, K), transposed.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    matmul_vjp_a_11_warp_specialised(__nv_bfloat16* da, const __grid_constant__ TensorMap dc, const __grid_constant__ TensorMap b,
                                     int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, true>(da, dc, b, M, K, N, memory);
}

// The gradient of b: of a (K, M), transposed, and dc (K, N).
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    matmul_vjp_b_11_warp_specialised(__nv_bfloat16* db, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap dc,
                                     int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<false, false>(db, a, dc, M, K, N, memory);
}
