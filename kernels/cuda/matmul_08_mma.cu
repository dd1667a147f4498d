// matmul 08, mma: tensor cores multiply tiles of 16 x 8, and the next tiles are copied while these are multiplied.
//
// bfloat16 and float16 with float32 sums, and float32 rounded to tf32 (10 bits of fraction). A block of 4 warps makes 64 x 64
// of c, each warp 32 x 32: 2 x 4 tiles of mma.sync. Which lane holds what of a tile is written in on_cpu/tensor_cores.hpp.
// Tiles of a and b go to shared memory by cp.async, 16 bytes a copy and not through registers, into two stages by turns: while
// one is multiplied the other is filled. Where K or N is no multiple of 16 bytes, rows do not begin at multiples of 16
// bytes, and numbers are copied one by one.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "ptx.cuh"

constexpr int ROWS = 64, COLUMNS = 64, THREADS = 128, STAGES = 2;
constexpr int PAD = 16;  // bytes after each row in shared memory, so that rows do not all begin at the same bank

// What differs by type: how many steps of k one instruction takes, and how its registers are filled from the tiles.
template <class T>
struct Halves {  // 16-bit numbers, two in a register
  static constexpr int EACH = 8, DEPTH = 32, STEP = 16;
  static __device__ void load_a(unsigned (&r)[4], const T* a, int stride, int group, int member) {
    for (int i = 0; i < 4; i++)
      r[i] = *reinterpret_cast<const unsigned*>(a + (group + 8 * (i % 2)) * stride + 2 * member + 8 * (i / 2));
  }
  static __device__ void load_b(unsigned (&r)[2], const T* b, int stride, int group, int member) {
    const unsigned short* bits = reinterpret_cast<const unsigned short*>(b);
    for (int i = 0; i < 2; i++) {
      const unsigned short* at = bits + (2 * member + 8 * i) * stride + group;  // two rows of b make one register
      r[i] = at[0] | (unsigned)at[stride] << 16;
    }
  }
};

template <class T>
struct Type;

template <>
struct Type<__nv_bfloat16> : Halves<__nv_bfloat16> {
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k16_bf16(d, a, b); }
  static __device__ __nv_bfloat16 rounded(float x) { return __float2bfloat16(x); }
  static __device__ __nv_bfloat16 zero() { return __float2bfloat16(0.0f); }
};

template <>
struct Type<__half> : Halves<__half> {
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k16_f16(d, a, b); }
  static __device__ __half rounded(float x) { return __float2half(x); }
  static __device__ __half zero() { return __float2half(0.0f); }
};

template <>
struct Type<float> {
  static constexpr int EACH = 4, DEPTH = 16, STEP = 8;
  static __device__ void load_a(unsigned (&r)[4], const float* a, int stride, int group, int member) {
    for (int i = 0; i < 4; i++) r[i] = to_tf32(a[(group + 8 * (i % 2)) * stride + member + 4 * (i / 2)]);
  }
  static __device__ void load_b(unsigned (&r)[2], const float* b, int stride, int group, int member) {
    for (int i = 0; i < 2; i++) r[i] = to_tf32(b[(member + 4 * i) * stride + group]);
  }
  static __device__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) { mma_m16n8k8_tf32(d, a, b); }
  static __device__ float rounded(float x) { return x; }
  static __device__ float zero() { return 0.0f; }
};

// A tile of `height` x `width` numbers from (row0, column0) of a matrix to shared memory; zeros beyond the matrix.
template <class T>
__device__ void load_tile(T* tile, int stride, const T* matrix, int row0, int column0, int height, int width, int rows,
                          int columns) {
  constexpr int EACH = Type<T>::EACH;
  for (int i = threadIdx.x; i < height * width / EACH; i += THREADS) {
    const int y = i / (width / EACH), x = i % (width / EACH) * EACH;
    const int row = row0 + y, column = column0 + x;
    const int there = row < rows ? min(max(columns - column, 0), EACH) : 0;  // how many of the numbers lie inside
    const T* from = there ? matrix + (size_t)row * columns + column : matrix;
    if (columns % EACH == 0)
      cp_async_16(tile + y * stride + x, from, there * sizeof(T));
    else
      for (int j = 0; j < EACH; j++) tile[y * stride + x + j] = j < there ? from[j] : Type<T>::zero();
  }
}

template <class T>
__device__ void product(T* c, const T* a, const T* b, int M, int K, int N, unsigned char* memory) {
  constexpr int DEPTH = Type<T>::DEPTH, STEP = Type<T>::STEP;
  constexpr int A_STRIDE = DEPTH + PAD / sizeof(T), B_STRIDE = COLUMNS + PAD / sizeof(T);
  constexpr int A_SIZE = ROWS * A_STRIDE, STAGE = A_SIZE + DEPTH * B_STRIDE;
  T* stages = reinterpret_cast<T*>(memory);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  const int y = warp / 2 * 32, x = warp % 2 * 32;  // the warp's corner in the tile of c
  float sums[2][4][4] = {};
  const int tiles = (K + DEPTH - 1) / DEPTH;

  for (int t = -1; t < tiles; t++) {
    if (t + 1 < tiles) {
      T* next = stages + (t + 1) % STAGES * STAGE;
      load_tile(next, A_STRIDE, a, row0, (t + 1) * DEPTH, ROWS, DEPTH, M, K);
      load_tile(next + A_SIZE, B_STRIDE, b, (t + 1) * DEPTH, column0, DEPTH, COLUMNS, K, N);
    }
    cp_async_commit();
    if (t < 0) continue;
    cp_async_wait<1>();
    __syncthreads();  // everybody's copies of tile t are there
    const T* tile_a = stages + t % STAGES * STAGE;
    const T* tile_b = tile_a + A_SIZE;
    for (int k = 0; k < DEPTH; k += STEP) {
      unsigned of_a[2][4], of_b[4][2];
      for (int i = 0; i < 2; i++) Type<T>::load_a(of_a[i], tile_a + (y + 16 * i) * A_STRIDE + k, A_STRIDE, group, member);
      for (int j = 0; j < 4; j++) Type<T>::load_b(of_b[j], tile_b + k * B_STRIDE + x + 8 * j, B_STRIDE, group, member);
      for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++) Type<T>::multiply(sums[i][j], of_a[i], of_b[j]);
    }
    __syncthreads();  // nobody reads tile t any more: its stage may be filled
  }

  for (int i = 0; i < 2; i++)
    for (int j = 0; j < 4; j++)
      for (int l = 0; l < 4; l++) {
        const int row = row0 + y + 16 * i + group + 8 * (l / 2), column = column0 + x + 8 * j + 2 * member + l % 2;
        if (row < M && column < N) c[(size_t)row * N + column] = Type<T>::rounded(sums[i][j][l]);
      }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_forward_08_mma_bfloat16(__nv_bfloat16* c, const __nv_bfloat16* a, const __nv_bfloat16* b, int M, int K, int N) {
  extern __shared__ __align__(16) unsigned char memory[];
  product(c, a, b, M, K, N, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_forward_08_mma_float16(__half* c, const __half* a, const __half* b, int M, int K, int N) {
  extern __shared__ __align__(16) unsigned char memory[];
  product(c, a, b, M, K, N, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_forward_08_mma_float32(float* c, const float* a, const float* b, int M, int K, int N) {
  extern __shared__ __align__(16) unsigned char memory[];
  product(c, a, b, M, K, N, memory);
}
