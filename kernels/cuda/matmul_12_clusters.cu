// matmul 12, clusters: two blocks with tiles below each other share the panels of b, each loads half of them for both.
//
// So a block asks for 2 + 2 panels instead of 2 + 4 of rung 11. A stage of either block is empty when the consumers of both have
// multiplied it, because each writes into both: a warp arrives at its own mbarrier and at the other block's. Pairs make their
// tiles in bands of BAND pairs down and then across: what runs at the same time then reads few different panels, which stay in
// the L2 cache.

#include <cuda_bf16.h>

#include "hopper.cuh"

constexpr int ROWS = 128, COLUMNS = 256, DEPTH = 64, THREADS = 384, STAGES = 4;
constexpr int CONSUMERS = 2;     // warpgroups; the first one of the block is the producer
constexpr int TOGETHER = 2, BOTH = 0b11;  // blocks of a cluster
constexpr int BAND = 4;
constexpr int PANEL = 64 * 128;  // bytes
constexpr int STAGE = (ROWS + COLUMNS) / 64 * PANEL;

// The place of tile number `tile` among `down` x `across` tiles.
__device__ int2 place_of(int tile, int down, int across) {
  const int first = tile / (BAND * across) * BAND, height = min(BAND, down - first), inside = tile % (BAND * across);
  return make_int2(inside / height, first + inside % height);
}

// Panels that cover `width` of M or N from i0 on, and 64 of k from k0 on, to all blocks of the mask; zeros beyond the matrix.
template <bool ALONG_K>
__device__ void load_panels(unsigned char* panels, const TensorMap& matrix, int i0, int k0, int width, unsigned short blocks,
                            Mbarrier* there) {
  for (int p = 0; p < width / 64; p++) {
    const int i = i0 + 64 * p;
    tma_load_2d_to(blocks, panels + p * PANEL, matrix, ALONG_K ? k0 : i, ALONG_K ? i : k0, there);
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
  const int down = (M + TOGETHER * ROWS - 1) / (TOGETHER * ROWS), tiles = down * across;  // of both blocks
  const int rank = cluster_rank();
  int n = 0;

  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbarrier_init(&full[s], 1);
      mbarrier_init(&empty[s], TOGETHER * CONSUMERS * 4);  // warps
    }
    mbarrier_init_fence();
  }
  cluster_sync();  // the mbarriers of both blocks are there

  if (threadIdx.x < 128) {
    registers_give<40>();
    for (int tile = blockIdx.x / TOGETHER; tile < tiles && threadIdx.x == 0; tile += gridDim.x / TOGETHER) {
      const int2 at = place_of(tile, down, across);
      const int row0 = (TOGETHER * at.y + rank) * ROWS, column0 = at.x * COLUMNS + rank * COLUMNS / TOGETHER;
      for (int t = 0; t < depths; t++, n++) {
        const int s = n % STAGES;
        unsigned char* tile_a = stages + s * STAGE;
        unsigned char* half_of_b = tile_a + (ROWS + rank * COLUMNS / TOGETHER) / 64 * PANEL;
        mbarrier_wait_cluster(&empty[s], n / STAGES + 1 & 1);  // the first time round, as if a phase before 0 had ended
        mbarrier_arrive_expecting(&full[s], STAGE);            // the other half of b too
        load_panels<A_ALONG_K>(tile_a, a, row0, t * DEPTH, ROWS, 1 << rank, &full[s]);
        load_panels<B_ALONG_K>(half_of_b, b, column0, t * DEPTH, COLUMNS / TOGETHER, BOTH, &full[s]);
      }
    }
  } else {
    registers_take<232>();
    const int warpgroup = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    for (int tile = blockIdx.x / TOGETHER; tile < tiles; tile += gridDim.x / TOGETHER) {
      const int2 at = place_of(tile, down, across);
      const int row0 = (TOGETHER * at.y + rank) * ROWS, column0 = at.x * COLUMNS;
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
        if (lane < TOGETHER) mbarrier_arrive_at(&empty[s], lane);  // this warp does not read stage s any more
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
  cluster_sync();  // the other block does not write into this one any more, nor arrive here
}

// c (M, N) of a (M, K) and b (K, N).
extern "C" __global__ void __cluster_dims__(TOGETHER) __launch_bounds__(THREADS, 1)
    matmul_forward_12_clusters(__nv_bfloat16* c, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                               int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, false>(c, a, b, M, K, N, memory);
}

// The gradient of a: of dc (M, K) and b (N, K), transposed.
extern "C" __global__ void __cluster_dims__(TOGETHER) __launch_bounds__(THREADS, 1)
    matmul_vjp_a_12_clusters(__nv_bfloat16* da, const __grid_constant__ TensorMap dc, const __grid_constant__ TensorMap b,
                             int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, true>(da, dc, b, M, K, N, memory);
}

// The gradient of b: of a (K, M), transposed, and dc (K, N).
extern "C" __global__ void __cluster_dims__(TOGETHER) __launch_bounds__(THREADS, 1)
    matmul_vjp_b_12_clusters(__nv_bfloat16* db, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap dc,
                             int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<false, false>(db, a, dc, M, K, N, memory);
}
