// matmul 09, wgmma: the tensor cores of sm_90a read both tiles from shared memory, and a warpgroup waits for nothing but the end.
//
// bfloat16 with float32 sums. A block of two warpgroups makes 128 x 128 of c, each 64 x 128: one wgmma takes 16 of k. Tiles lie in
// panels of 64 x 64 numbers, 64 rows of 128 bytes; in each 8 rows the 16-byte pieces are swizzled (on_cpu/tma.hpp), so that
// eight rows of a column of pieces meet all banks. Rows of a panel run along k, or along M or N: wgmma reads either, so that the
// gradients need no transposed copy. cp.async fills two stages by turns, as in rung 08. Rows are multiples of 16 bytes.

#include <cuda_bf16.h>

#include "hopper.cuh"
#include "ptx.cuh"

constexpr int ROWS = 128, COLUMNS = 128, DEPTH = 64, THREADS = 256, STAGES = 2;
constexpr int PANEL = 64 * 128;  // bytes
constexpr int STAGE = (ROWS + COLUMNS) / 64 * PANEL;

// 64 x 64 numbers from (row0, column0) of a matrix; zeros beyond it.
__device__ void load_panel(unsigned char* panel, const __nv_bfloat16* matrix, int row0, int column0, int rows, int columns) {
  for (int i = threadIdx.x; i < 64 * 8; i += THREADS) {
    const int y = i / 8, piece = i % 8, row = row0 + y, column = column0 + 8 * piece;
    const bool inside = row < rows && column < columns;
    const __nv_bfloat16* from = inside ? matrix + (size_t)row * columns + column : matrix;
    cp_async_16(panel + 128 * y + 16 * (piece ^ y % 8), from, inside ? 16 : 0);
  }
}

// Panels that cover `width` of M or N from i0 on, and 64 of k: of a matrix (length, K), or (K, length) if rows do not run along k.
template <bool ALONG_K>
__device__ void load_panels(unsigned char* panels, const __nv_bfloat16* matrix, int i0, int k0, int width, int length, int K) {
  for (int p = 0; p < width / 64; p++) {
    if (ALONG_K) load_panel(panels + p * PANEL, matrix, i0 + 64 * p, k0, length, K);
    else load_panel(panels + p * PANEL, matrix, k0, i0 + 64 * p, K, length);
  }
}

template <bool ALONG_K>
__device__ unsigned long long descriptor(const unsigned char* panels, int k) {
  return wgmma_descriptor(panels + k * (ALONG_K ? 2 : 128), PANEL, 8 * 128);
}

template <bool A_ALONG_K, bool B_ALONG_K>
__device__ void product(__nv_bfloat16* c, const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int K, int N,
                        unsigned char* memory) {
  unsigned char* stages = aligned_1024(memory);
  const int warpgroup = threadIdx.x / 128, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  float sums[64] = {};
  const int tiles = (K + DEPTH - 1) / DEPTH;

  for (int t = -1; t < tiles; t++) {
    if (t + 1 < tiles) {
      unsigned char* next = stages + (t + 1) % STAGES * STAGE;
      load_panels<A_ALONG_K>(next, a, row0, (t + 1) * DEPTH, ROWS, M, K);
      load_panels<B_ALONG_K>(next + ROWS / 64 * PANEL, b, column0, (t + 1) * DEPTH, COLUMNS, N, K);
    }
    cp_async_commit();
    if (t < 0) continue;
    cp_async_wait<1>();
    fence_async_proxy();  // wgmma reads beside the threads
    __syncthreads();      // everybody's copies of tile t are there
    const unsigned char* tile_a = stages + t % STAGES * STAGE + warpgroup * PANEL;
    const unsigned char* tile_b = stages + t % STAGES * STAGE + ROWS / 64 * PANEL;
    wgmma_fence(sums);
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16)
      wgmma_m64n128k16<!A_ALONG_K, !B_ALONG_K>(sums, descriptor<A_ALONG_K>(tile_a, k), descriptor<B_ALONG_K>(tile_b, k));
    wgmma_commit();
    wgmma_wait<0>(sums);
    __syncthreads();  // nobody reads tile t any more: its stage may be filled
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
    matmul_forward_09_wgmma(__nv_bfloat16* c, const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, false>(c, a, b, M, K, N, memory);
}

// The gradient of a: of dc (M, K) and b (N, K), transposed.
extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_vjp_a_09_wgmma(__nv_bfloat16* da, const __nv_bfloat16* dc, const __nv_bfloat16* b, int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<true, true>(da, dc, b, M, K, N, memory);
}

// The gradient of b: of a (K, M), transposed, and dc (K, N).
extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_vjp_b_09_wgmma(__nv_bfloat16* db, const __nv_bfloat16* a, const __nv_bfloat16* dc, int M, int K, int N) {
  extern __shared__ unsigned char memory[];
  product<false, false>(db, a, dc, M, K, N, memory);
}
