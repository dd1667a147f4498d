// linear_cross_entropy 02, mma: tensor cores for all four products, tiles by cp.async, and no copy is ever transposed.
//
// The walk is rung 01's: 128 rows by 128 classes at a time, of logits that stay in registers and are float32, whatever the type of
// x and W is. 8 warps have 64 x 32 of a tile each, 4 x 4 tiles of mma.sync; which lane holds what of one is written in
// on_cpu/tensor_cores.hpp. The next 32 steps of k are copied by cp.async into the other of two stages while these are multiplied.
// A product wants its left factor by rows and its right one by columns, but x, W and dz are factors of one and of the other kind,
// and W is stored this or that way round. So a tile is copied as it lies in memory, 16 bytes at a time, and ldmatrix, which
// transposes if it is told to, brings it into registers.
//
// bfloat16 and float16 with float32 sums. dz is rounded to 16 bits, in float16 2^14 times as large: e^(z - m) / total of one class
// in 50257 would be no normal number there. dx is summed up over the chunks in float32, in `sums`, and rounded once.
//
// x, dx: R x C. weight, dweight: C x V, or V x C where `transposed`. bias: V. dz: R x width, for the classes from `first` on.
// Rows of x, weight and dz lie in memory with a multiple of 8 numbers each, the last ones zeros; those of dx and dweight do not.

#include "linear_losses_shared.cuh"
#include "sixteen_bits.cuh"

constexpr int SIDE = 128, DEPTH = 32, STEP = 16, STAGES = 2, THREADS = 256;
constexpr int DOWN = 64, ACROSS = 32, I = DOWN / 16, J = ACROSS / 8;  // of a warp; I x J tiles of 16 x 8
constexpr int WARPS_ACROSS = SIDE / ACROSS, SHARES = 4 * WARPS_ACROSS;  // SHARES threads make the logits of a row
constexpr int EACH = 8;                    // numbers in a copy of 16 bytes
constexpr int PAD = 8;                     // numbers after each row in shared memory: 8 neighbouring rows have other banks
constexpr int ROOM = SIDE * (DEPTH + PAD);  // for a tile, which may also be DEPTH rows of SIDE
constexpr int COLUMNS = 32, PARTS = 8;        // of a block that adds up columns: so many, each in so many parts

template <class T>
constexpr float SCALE = 1.0f;  // of dz
template <>
constexpr float SCALE<__half> = 16384.0f;

__device__ int in_memory(int width) { return (width + EACH - 1) / EACH * EACH; }

// One side of a product: the numbers (i, k) for `length` rows i of the left one, or columns i of the right one, and `depth` k. In
// memory there is a row of `pitch` numbers for each i where ALONG_K, for each k where not.
template <class T, bool ALONG_K>
struct Factor {
  const T* at;
  int length, depth, pitch;

  // 128 numbers i from `first` on of 32 k from k0 on, as they lie; zeros beyond the edges.
  __device__ void load(T* tile, int first, int k0) const {
    constexpr int HEIGHT = ALONG_K ? SIDE : DEPTH, COPIES = (ALONG_K ? DEPTH : SIDE) / EACH;
    for (int n = threadIdx.x; n < HEIGHT * COPIES; n += THREADS) {
      const int y = n / COPIES, x = n % COPIES * EACH;
      const int row = (ALONG_K ? first : k0) + y, column = (ALONG_K ? k0 : first) + x;
      const bool there = row < (ALONG_K ? length : depth) && column < (ALONG_K ? depth : length);
      cp_async_16(tile + y * (COPIES * EACH + PAD) + x, there ? at + (size_t)row * pitch + column : at, there ? 16 : 0);
    }
  }

  // Four matrices of 8 x 8 from (i, k) on. DOWN_FIRST: the second one is the next 8 of i, as in a left factor, and not of k.
  template <bool DOWN_FIRST>
  static __device__ void fetch(unsigned (&r)[4], const T* tile, int i, int k) {
    const int lane = threadIdx.x % 32, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
    i += DOWN_FIRST ? second : third;
    k += DOWN_FIRST ? third : second;
    if (ALONG_K)
      ldmatrix_x4(r, tile + (i + lane % 8) * (DEPTH + PAD) + k);
    else
      ldmatrix_x4_transposed(r, tile + (k + lane % 8) * (SIDE + PAD) + i);
  }
};

// The thread's numbers in a tile are sums[i][j][l]; which row and which column these are.
__device__ int row_of(int i, int l) { return threadIdx.x / 32 / WARPS_ACROSS * DOWN + 16 * i + threadIdx.x % 32 / 4 + l / 2 * 8; }
__device__ int column_of(int j, int l) { return threadIdx.x / 32 % WARPS_ACROSS * ACROSS + 8 * j + threadIdx.x % 4 * 2 + l % 2; }

// sums = a b for the tile at (row0, column0), in the order of k.
template <class T, bool A, bool B>
__device__ void product(float (&sums)[I][J][4], T* stages, const Factor<T, A>& a, int row0, const Factor<T, B>& b, int column0) {
  const int y = threadIdx.x / 32 / WARPS_ACROSS * DOWN, x = threadIdx.x / 32 % WARPS_ACROSS * ACROSS;  // the warp's corner
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++)
      for (int l = 0; l < 4; l++) sums[i][j][l] = 0.0f;
  const int tiles = (a.depth + DEPTH - 1) / DEPTH;
  for (int t = -1; t < tiles; t++) {
    if (t + 1 < tiles) {
      T* next = stages + (t + 1) % STAGES * 2 * ROOM;
      a.load(next, row0, (t + 1) * DEPTH);
      b.load(next + ROOM, column0, (t + 1) * DEPTH);
    }
    cp_async_commit();
    if (t < 0) continue;
    cp_async_wait<1>();
    __syncthreads();  // everybody's copies of tile t are there
    const T *tile_a = stages + t % STAGES * 2 * ROOM, *tile_b = tile_a + ROOM;
    for (int k = 0; k < DEPTH; k += STEP) {
      unsigned of_a[I][4], of_b[J][2];
      for (int i = 0; i < I; i++) a.template fetch<true>(of_a[i], tile_a, y + 16 * i, k);
      for (int j = 0; j < J; j += 2) {
        unsigned two[4];
        b.template fetch<false>(two, tile_b, x + 8 * j, k);
        for (int l = 0; l < 4; l++) of_b[j + l / 2][l % 2] = two[l];
      }
      for (int i = 0; i < I; i++)
        for (int j = 0; j < J; j++) Type<T>::multiply(sums[i][j], of_a[i], of_b[j]);
    }
    __syncthreads();  // nobody reads tile t any more: its stage may be filled
  }
}

// z = x W for the tile at (row0, column0): the same bits on the way forward and back.
template <class T>
__device__ void logits(float (&z)[I][J][4], T* stages, const T* x, const T* weight, int row0, int column0, int R, int C, int V,
                       int transposed) {
  const Factor<T, true> rows = {x, R, C, in_memory(C)};
  if (transposed)
    product(z, stages, rows, row0, Factor<T, true>{weight, V, C, in_memory(C)}, column0);
  else
    product(z, stages, rows, row0, Factor<T, false>{weight, V, C, in_memory(V)}, column0);
}

template <class T>
__device__ void forward(float* maxima, float* totals, float* belows, float* of_targets, const T* x, const T* weight, const T* bias,
                        const int* targets, int R, int C, int V, int slice, int transposed, unsigned char* memory) {
  const int row0 = blockIdx.x * SIDE, start = blockIdx.y * slice, end = min(V, start + slice);
  Kept kept[I][2];
  for (int i = 0; i < I; i++) kept[i][0] = kept[i][1] = {LOWEST, 0.0f, 0.0f, 0};
  for (int column0 = start; column0 < end; column0 += SIDE) {
    float z[I][J][4];
    logits(z, reinterpret_cast<T*>(memory), x, weight, row0, column0, R, C, V, transposed);
#pragma unroll  // or z would lie in memory
    for (int i = 0; i < 2 * I; i++) {
      const int half = i % 2 * 2, row = row0 + row_of(i / 2, half), target = row < R ? targets[row] : IGNORED;
      Kept& s = kept[i / 2][i % 2];
      float larger = s.m;
      for (int j = 0; j < J; j++)
        for (int l = half; l < half + 2; l++) {
          const int column = column0 + column_of(j, l);
          if (column >= V) continue;
          z[i / 2][j][l] += Type<T>::number(bias[column]);
          larger = fmaxf(larger, z[i / 2][j][l]);
          if (column == target) of_targets[row] = z[i / 2][j][l];
        }
      s = raised(s, larger);
      for (int j = 0; j < J; j++)
        for (int l = half; l < half + 2; l++) {
          if (column0 + column_of(j, l) >= V) continue;
          s.total += expf(z[i / 2][j][l] - larger);
          s.below += larger - z[i / 2][j][l];
          s.n++;
        }
    }
  }
  Kept(*of_rows)[SHARES + 1] = reinterpret_cast<Kept(*)[SHARES + 1]>(memory);  // nobody reads tiles any more
#pragma unroll
  for (int i = 0; i < 2 * I; i++)
    of_rows[row_of(i / 2, i % 2 * 2)][threadIdx.x / 32 % WARPS_ACROSS * 4 + threadIdx.x % 4] = kept[i / 2][i % 2];
  __syncthreads();  // what every thread kept is there
  const int row = row0 + threadIdx.x;
  if (threadIdx.x >= SIDE || row >= R) return;
  slice_of_row(of_rows[threadIdx.x], SHARES, (size_t)blockIdx.y * R + row, maxima, totals, belows);
}

// The slices of a row become one, and its loss: a thread for each row.
extern "C" __global__ void __launch_bounds__(ROWS)
    linear_cross_entropy_forward_02_rows(float* losses, float* maxima, float* totals, const float* maxima_of,
                                         const float* totals_of, const float* belows_of, const float* of_targets,
                                         const int* targets, float smoothing, int R, int V, int slice) {
  const int row = blockIdx.x * ROWS + threadIdx.x;
  if (row >= R) return;
  row_of_slices(row, losses, maxima, totals, maxima_of, totals_of, belows_of, of_targets, targets, smoothing, R, V, slice);
}

template <class T>
__device__ void slopes(T* dz, const T* x, const T* weight, const T* bias, const int* targets, const float* maxima,
                       const float* totals, float smoothing, int R, int C, int V, int first, int width, int transposed,
                       unsigned char* memory) {
  const int row0 = blockIdx.x * SIDE, column0 = first + blockIdx.y * SIDE, pitch = in_memory(width);
  float z[I][J][4];
  logits(z, reinterpret_cast<T*>(memory), x, weight, row0, column0, R, C, V, transposed);
#pragma unroll
  for (int i = 0; i < 2 * I; i++) {
    const int half = i % 2 * 2, row = row0 + row_of(i / 2, half);
    if (row >= R) continue;
    const int target = targets[row];
    const float m = maxima[row], scale = 1.0f / totals[row];
    for (int j = 0; j < J; j++)
      for (int l = half; l < half + 2; l++) {
        const int column = column0 + column_of(j, l);
        if (column >= first + pitch) continue;
        float slope = 0.0f;  // beyond the last class, too: these are steps of a product
        if (column < first + width && target != IGNORED) {
          const float p = expf(z[i / 2][j][l] + Type<T>::number(bias[column]) - m) * scale;
          slope = p - (smoothing / V + (column == target ? 1.0f - smoothing : 0.0f));
        }
        dz[(size_t)row * pitch + column - first] = Type<T>::rounded(slope * SCALE<T>);
      }
  }
}

// dy / count, and what dz is too large by is taken back.
template <class T>
__device__ float share(const T* dy, int count) {
  return Type<T>::number(dy[0]) / count / SCALE<T>;
}

template <class T>
__device__ void gradient_of_x(T* dx, float* sums, const T* dz, const T* dy, const T* weight, int count, int R, int C, int V,
                              int first, int width, int transposed, unsigned char* memory) {
  const int row0 = blockIdx.x * SIDE, column0 = blockIdx.y * SIDE;
  const Factor<T, true> rows = {dz, R, width, in_memory(width)};
  const float factor = share(dy, count);
  float of_chunk[I][J][4];
  T* stages = reinterpret_cast<T*>(memory);
  if (transposed)
    product(of_chunk, stages, rows, row0, Factor<T, false>{weight + (size_t)first * in_memory(C), C, width, in_memory(C)}, column0);
  else
    product(of_chunk, stages, rows, row0, Factor<T, true>{weight + first, C, width, in_memory(V)}, column0);
#pragma unroll
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++)
      for (int l = 0; l < 4; l++) {
        const int row = row0 + row_of(i, l), column = column0 + column_of(j, l);
        if (row >= R || column >= C) continue;
        const size_t at = (size_t)row * C + column;
        const float sum = (first > 0 ? sums[at] : 0.0f) + of_chunk[i][j][l];
        if (first + width < V)
          sums[at] = sum;
        else
          dx[at] = Type<T>::rounded(factor * sum);
      }
}

// dW = x^T dz, or (dW)^T = dz^T x where it is stored so: rows are written side by side either way.
template <class T>
__device__ void gradient_of_weight(T* dweight, const T* dz, const T* dy, const T* x, int count, int R, int C, int V, int first,
                                   int width, int transposed, unsigned char* memory) {
  const int row0 = blockIdx.x * SIDE, column0 = blockIdx.y * SIDE, pitch = transposed ? C : V;
  const float factor = share(dy, count);
  const Factor<T, false> of_x = {x, C, R, in_memory(C)}, of_dz = {dz, width, R, in_memory(width)};
  const Factor<T, false> down = transposed ? of_dz : of_x, across = transposed ? of_x : of_dz;
  float sums[I][J][4];
  product(sums, reinterpret_cast<T*>(memory), down, row0, across, column0);
  dweight += transposed ? (size_t)first * C : first;
  for (int i = 0; i < I; i++)
    for (int j = 0; j < J; j++)
      for (int l = 0; l < 4; l++) {
        const int row = row0 + row_of(i, l), column = column0 + column_of(j, l);
        if (row < down.length && column < across.length)
          dweight[(size_t)row * pitch + column] = Type<T>::rounded(factor * sums[i][j][l]);
      }
}

// The sums of dz's columns: a block has 32 of them, and 8 threads for each, which take every 8th row.
template <class T>
__device__ void gradient_of_bias(T* dbias, const T* dz, const T* dy, int count, int R, int first, int width,
                                 float (&parts)[PARTS][COLUMNS]) {
  const int lane = threadIdx.x % COLUMNS, part = threadIdx.x / COLUMNS, column = blockIdx.x * COLUMNS + lane;
  float sum = 0.0f;
  if (column < width)
    for (int row = part; row < R; row += PARTS) sum += Type<T>::number(dz[(size_t)row * in_memory(width) + column]);
  parts[part][lane] = sum;
  __syncthreads();  // all parts are there
  if (part > 0 || column >= width) return;
  for (int p = 1; p < PARTS; p++) sum += parts[p][lane];
  dbias[first + column] = Type<T>::rounded(share(dy, count) * sum);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_forward_02_mma_bfloat16(float* maxima, float* totals, float* belows, float* of_targets,
                                                 const __nv_bfloat16* x, const __nv_bfloat16* weight, const __nv_bfloat16* bias,
                                                 const int* targets, int R, int C, int V, int slice, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward(maxima, totals, belows, of_targets, x, weight, bias, targets, R, C, V, slice, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(ROWS)
    linear_cross_entropy_forward_02_mean_bfloat16(__nv_bfloat16* loss, const float* losses, int count, int R) {
  __shared__ float sums[WARPS];
  const float mean = mean_of(losses, count, R, sums);
  if (threadIdx.x == 0) loss[0] = Type<__nv_bfloat16>::rounded(mean);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_02_mma_bfloat16(__nv_bfloat16* dz, const __nv_bfloat16* x, const __nv_bfloat16* weight,
                                             const __nv_bfloat16* bias, const int* targets, const float* maxima,
                                             const float* totals, float smoothing, int R, int C, int V, int first, int width,
                                             int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  slopes(dz, x, weight, bias, targets, maxima, totals, smoothing, R, C, V, first, width, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_02_dx_bfloat16(__nv_bfloat16* dx, float* sums, const __nv_bfloat16* dz, const __nv_bfloat16* dy,
                                            const __nv_bfloat16* weight, int count, int R, int C, int V, int first, int width,
                                            int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_x(dx, sums, dz, dy, weight, count, R, C, V, first, width, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_02_dweight_bfloat16(__nv_bfloat16* dweight, const __nv_bfloat16* dz, const __nv_bfloat16* dy,
                                                 const __nv_bfloat16* x, int count, int R, int C, int V, int first, int width,
                                                 int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_weight(dweight, dz, dy, x, count, R, C, V, first, width, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(COLUMNS * PARTS)
    linear_cross_entropy_vjp_02_dbias_bfloat16(__nv_bfloat16* dbias, const __nv_bfloat16* dz, const __nv_bfloat16* dy,
                                               int count, int R, int first, int width) {
  __shared__ float parts[PARTS][COLUMNS];
  gradient_of_bias(dbias, dz, dy, count, R, first, width, parts);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_forward_02_mma_float16(float* maxima, float* totals, float* belows, float* of_targets, const __half* x,
                                                const __half* weight, const __half* bias, const int* targets, int R, int C,
                                                int V, int slice, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward(maxima, totals, belows, of_targets, x, weight, bias, targets, R, C, V, slice, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(ROWS)
    linear_cross_entropy_forward_02_mean_float16(__half* loss, const float* losses, int count, int R) {
  __shared__ float sums[WARPS];
  const float mean = mean_of(losses, count, R, sums);
  if (threadIdx.x == 0) loss[0] = Type<__half>::rounded(mean);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_02_mma_float16(__half* dz, const __half* x, const __half* weight, const __half* bias,
                                            const int* targets, const float* maxima, const float* totals, float smoothing,
                                            int R, int C, int V, int first, int width, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  slopes(dz, x, weight, bias, targets, maxima, totals, smoothing, R, C, V, first, width, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_02_dx_float16(__half* dx, float* sums, const __half* dz, const __half* dy, const __half* weight,
                                           int count, int R, int C, int V, int first, int width, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_x(dx, sums, dz, dy, weight, count, R, C, V, first, width, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_02_dweight_float16(__half* dweight, const __half* dz, const __half* dy, const __half* x, int count,
                                                int R, int C, int V, int first, int width, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_weight(dweight, dz, dy, x, count, R, C, V, first, width, transposed, memory);
}

extern "C" __global__ void __launch_bounds__(COLUMNS * PARTS)
    linear_cross_entropy_vjp_02_dbias_float16(__half* dbias, const __half* dz, const __half* dy, int count, int R, int first,
                                              int width) {
  __shared__ float parts[PARTS][COLUMNS];
  gradient_of_bias(dbias, dz, dy, count, R, first, width, parts);
}
