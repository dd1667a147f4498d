// linear_cross_entropy 01, tiles: logits are made in registers, a tile at a time; what a loss needs of them is all that is stored.
//
// Forward, a block owns 128 rows of x and a slice of the vocabulary, and walks over the slice in tiles of 128 classes. A tile of
// z = x W + b is 8 x 8 sums in each of 256 threads, as in matmul 05, and goes no further: a thread keeps three numbers of each
// row that it has a part in (linear_losses.cuh: the largest logit, and two sums that follow it). At the end of the slice one
// thread a row adds up what the row's 16 threads kept, a second kernel adds up the slices in their order and makes the loss of
// the row, and a third the mean.
//
// Back, z is computed again (Wijmans et al. 2024, Cut your losses in large-vocabulary language models), for one chunk of the
// vocabulary after the other. Of a chunk
//     dz = e^(z - m) / total - q      0 in rows that do not count
// is stored, and with share = dy / count it makes dx += share dz W^T, dW = share x^T dz and db = share times the sums of its
// columns. Each sum has one owner and one order.
//
// x, dx: R x C. weight, dweight: C x V, or V x C where `transposed`. bias: V. dz: R x width, for the classes from `first` on.

#include "linear_losses_shared.cuh"

constexpr int SIDE = 128, DEPTH = 8, EACH = 8;  // a tile of a product: SIDE x SIDE, of which a thread has EACH x EACH
constexpr int ACROSS = SIDE / EACH, THREADS = ACROSS * ACROSS;
constexpr int PAD = 4;  // floats after each row of a tile: numbers that are stored one below the other have other banks
constexpr int COLUMNS = 32, PARTS = 8;        // of a block that adds up columns: so many, each in so many parts

// One side of a product: the numbers (i, k) for `length` rows i of the left one, or columns i of the right one. They lie at
// at[i * step + k * step_k], one of the two steps is 1.
struct Factor {
  const float* at;
  int length;
  size_t step, step_k;
};

struct Tiles {
  float a[DEPTH][SIDE + PAD], b[DEPTH][SIDE + PAD];
};

// 128 rows or columns from `first` on, 8 numbers of each from k0 on; zeros beyond the edges. Neighbouring threads read neighbours.
__device__ void load_tile(float (&tile)[DEPTH][SIDE + PAD], const Factor& from, int first, int k0, int K) {
  for (int n = threadIdx.x; n < SIDE * DEPTH; n += THREADS) {
    const int i = from.step_k == 1 ? n / DEPTH : n % SIDE, k = from.step_k == 1 ? n % DEPTH : n / SIDE;
    const bool there = first + i < from.length && k0 + k < K;
    tile[k][i] = there ? from.at[(first + i) * from.step + (k0 + k) * from.step_k] : 0.0f;
  }
}

// The thread's numbers in a tile: 8 rows, side by side, of 8 columns, which are two fours.
__device__ int row_of(int i) { return threadIdx.x / ACROSS * EACH + i; }
__device__ int column_of(int j) { return threadIdx.x % ACROSS * 4 + j / 4 * (SIDE / 2) + j % 4; }

// sums = a b for the tile at (row0, column0), in the order of k.
__device__ void product(float (&sums)[EACH][EACH], Tiles& tiles, const Factor& a, int row0, const Factor& b, int column0, int K) {
  for (int i = 0; i < EACH; i++)
    for (int j = 0; j < EACH; j++) sums[i][j] = 0.0f;
  for (int k0 = 0; k0 < K; k0 += DEPTH) {
    load_tile(tiles.a, a, row0, k0, K);
    load_tile(tiles.b, b, column0, k0, K);
    __syncthreads();  // both tiles are there
    for (int k = 0; k < DEPTH; k++) {
      __align__(16) float down[EACH], across[EACH];
      for (int i = 0; i < EACH; i += 4) {
        *reinterpret_cast<float4*>(&down[i]) = *reinterpret_cast<const float4*>(&tiles.a[k][row_of(i)]);
        *reinterpret_cast<float4*>(&across[i]) = *reinterpret_cast<const float4*>(&tiles.b[k][column_of(i)]);
      }
      for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) sums[i][j] += down[i] * across[j];
    }
    __syncthreads();  // nobody reads them any more
  }
}

// z = x W for the tile at (row0, column0): the same bits on the way forward and back.
__device__ void logits(float (&z)[EACH][EACH], Tiles& tiles, const float* x, const float* weight, int row0, int column0, int R,
                       int C, int V, int transposed) {
  const Factor classes = {weight, V, transposed ? (size_t)C : 1, transposed ? 1 : (size_t)V};
  product(z, tiles, {x, R, (size_t)C, 1}, row0, classes, column0, C);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_forward_01_tiles(float* maxima, float* totals, float* belows, float* of_targets, const float* x,
                                          const float* weight, const float* bias, const int* targets, int R, int C, int V,
                                          int slice, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, start = blockIdx.y * slice, end = min(V, start + slice);
  Kept kept[EACH];
  for (int i = 0; i < EACH; i++) kept[i] = {LOWEST, 0.0f, 0.0f, 0};
  for (int column0 = start; column0 < end; column0 += SIDE) {
    float z[EACH][EACH];
    logits(z, *reinterpret_cast<Tiles*>(memory), x, weight, row0, column0, R, C, V, transposed);
#pragma unroll  // or z would lie in memory
    for (int i = 0; i < EACH; i++) {
      const int row = row0 + row_of(i), target = row < R ? targets[row] : IGNORED;
      float larger = kept[i].m;
      for (int j = 0; j < EACH; j++) {
        const int column = column0 + column_of(j);
        if (column >= V) continue;
        z[i][j] += bias[column];
        larger = fmaxf(larger, z[i][j]);
        if (column == target) of_targets[row] = z[i][j];
      }
      kept[i] = raised(kept[i], larger);
      for (int j = 0; j < EACH; j++) {
        if (column0 + column_of(j) >= V) continue;
        kept[i].total += expf(z[i][j] - larger);
        kept[i].below += larger - z[i][j];
        kept[i].n++;
      }
    }
  }
  Kept(*of_rows)[ACROSS + 1] = reinterpret_cast<Kept(*)[ACROSS + 1]>(memory);  // nobody reads tiles any more
#pragma unroll
  for (int i = 0; i < EACH; i++) of_rows[row_of(i)][threadIdx.x % ACROSS] = kept[i];
  __syncthreads();  // what every thread kept is there
  const int row = row0 + threadIdx.x;
  if (threadIdx.x >= SIDE || row >= R) return;
  slice_of_row(of_rows[threadIdx.x], ACROSS, (size_t)blockIdx.y * R + row, maxima, totals, belows);
}

// The slices of a row become one, and its loss: a thread for each row.
extern "C" __global__ void __launch_bounds__(ROWS)
    linear_cross_entropy_forward_01_rows(float* losses, float* maxima, float* totals, const float* maxima_of,
                                         const float* totals_of, const float* belows_of, const float* of_targets,
                                         const int* targets, float smoothing, int R, int V, int slice) {
  const int row = blockIdx.x * ROWS + threadIdx.x;
  if (row >= R) return;
  row_of_slices(row, losses, maxima, totals, maxima_of, totals_of, belows_of, of_targets, targets, smoothing, R, V, slice);
}

extern "C" __global__ void __launch_bounds__(ROWS)
    linear_cross_entropy_forward_01_mean(float* loss, const float* losses, int count, int R) {
  __shared__ float sums[WARPS];
  const float mean = mean_of(losses, count, R, sums);
  if (threadIdx.x == 0) loss[0] = mean;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_01_tiles(float* dz, const float* x, const float* weight, const float* bias, const int* targets,
                                      const float* maxima, const float* totals, float smoothing, int R, int C, int V, int first,
                                      int width, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, column0 = first + blockIdx.y * SIDE;
  float z[EACH][EACH];
  logits(z, *reinterpret_cast<Tiles*>(memory), x, weight, row0, column0, R, C, V, transposed);
  for (int i = 0; i < EACH; i++) {
    const int row = row0 + row_of(i);
    if (row >= R) break;
    const int target = targets[row];
    const float m = maxima[row], scale = 1.0f / totals[row];
    for (int j = 0; j < EACH; j++) {
      const int column = column0 + column_of(j);
      if (column >= first + width) continue;
      const float p = expf(z[i][j] + bias[column] - m) * scale, q = smoothing / V + (column == target ? 1.0f - smoothing : 0.0f);
      dz[(size_t)row * width + column - first] = target == IGNORED ? 0.0f : p - q;
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_01_dx(float* dx, const float* dz, const float* dy, const float* weight, int count, int R, int C, int V,
                                   int first, int width, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, column0 = blockIdx.y * SIDE;
  weight += transposed ? (size_t)first * C : first;
  const Factor features = {weight, C, transposed ? 1 : (size_t)V, transposed ? (size_t)C : 1};
  const float share = dy[0] / count;
  float sums[EACH][EACH];
  product(sums, *reinterpret_cast<Tiles*>(memory), {dz, R, (size_t)width, 1}, row0, features, column0, width);
  for (int i = 0; i < EACH; i++)
    for (int j = 0; j < EACH; j++) {
      const int row = row0 + row_of(i), column = column0 + column_of(j);
      if (row >= R || column >= C) continue;
      float* at = dx + (size_t)row * C + column;
      *at = (first > 0 ? *at : 0.0f) + share * sums[i][j];
    }
}

// dW = x^T dz, or (dW)^T = dz^T x where it is stored so: rows are written side by side either way.
extern "C" __global__ void __launch_bounds__(THREADS)
    linear_cross_entropy_vjp_01_dweight(float* dweight, const float* dz, const float* dy, const float* x, int count, int R, int C,
                                        int V, int first, int width, int transposed) {
  extern __shared__ __align__(16) unsigned char memory[];
  const int row0 = blockIdx.x * SIDE, column0 = blockIdx.y * SIDE;
  const Factor down = {transposed ? dz : x, transposed ? width : C, 1, (size_t)(transposed ? width : C)};
  const Factor across = {transposed ? x : dz, transposed ? C : width, 1, (size_t)(transposed ? C : width)};
  const float share = dy[0] / count;
  const int pitch = transposed ? C : V;
  dweight += transposed ? (size_t)first * C : first;
  float sums[EACH][EACH];
  product(sums, *reinterpret_cast<Tiles*>(memory), down, row0, across, column0, R);
  for (int i = 0; i < EACH; i++)
    for (int j = 0; j < EACH; j++) {
      const int row = row0 + row_of(i), column = column0 + column_of(j);
      if (row < down.length && column < across.length) dweight[(size_t)row * pitch + column] = share * sums[i][j];
    }
}

// The sums of dz's columns: a block has 32 of them, and 8 threads for each, which take every 8th row.
extern "C" __global__ void __launch_bounds__(COLUMNS * PARTS)
    linear_cross_entropy_vjp_01_dbias(float* dbias, const float* dz, const float* dy, int count, int R, int first, int width) {
  __shared__ float parts[PARTS][COLUMNS];
  const int lane = threadIdx.x % COLUMNS, part = threadIdx.x / COLUMNS, column = blockIdx.x * COLUMNS + lane;
  float sum = 0.0f;
  if (column < width)
    for (int row = part; row < R; row += PARTS) sum += dz[(size_t)row * width + column];
  parts[part][lane] = sum;
  __syncthreads();  // all parts are there
  if (part > 0 || column >= width) return;
  for (int p = 1; p < PARTS; p++) sum += parts[p][lane];
  dbias[first + column] = dy[0] / count * sum;
}
