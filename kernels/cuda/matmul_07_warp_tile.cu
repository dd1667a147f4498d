// matmul 07, warp tile: between the tile of a block and that of a thread comes one for each warp, 64 x 64.
//
// A warp's lanes read a small region of shared memory together: 8 lanes down, 4 across, in 4 steps of 16 columns. Lanes of one row
// or column read the same numbers (which costs one read for all of them), so a warp reads 64 + 64 numbers for 64 x 64 products
// of one k. The tile of c is 128 x 128 for 4 warps; a thread holds 8 x 16 numbers of it.

constexpr int ROWS = 128, COLUMNS = 128, DEPTH = 16, THREADS = 128;
constexpr int WARP_ROWS = 64, WARP_COLUMNS = 64;  // 2 x 2 warps
constexpr int DOWN = 8, ACROSS = 4;               // what a thread takes in one step
constexpr int STEPS = 4, STEP_COLUMNS = 16;       // 8 lanes x DOWN = 64 rows, 4 lanes x ACROSS = 16 columns

// Four numbers of row `row` from column `column` on; zeros beyond the edges of the matrix.
__device__ float4 load4(const float* matrix, int row, int column, int rows, int columns) {
  if (row >= rows) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const float* at = matrix + (size_t)row * columns + column;
  if (columns % 4 == 0 && column < columns) return *reinterpret_cast<const float4*>(at);
  return make_float4(column < columns ? at[0] : 0.0f, column + 1 < columns ? at[1] : 0.0f, column + 2 < columns ? at[2] : 0.0f,
                     column + 3 < columns ? at[3] : 0.0f);
}

// Two blocks a multiprocessor, of 182 registers a thread: left alone, the compiler makes room for three and spills some.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    matmul_forward_07_warp_tile(float* c, const float* a, const float* b, int M, int K, int N) {
  __shared__ __align__(16) float tile_a[DEPTH][ROWS];  // transposed
  __shared__ __align__(16) float tile_b[DEPTH][COLUMNS];
  const int t = threadIdx.x, warp = t / 32, lane = t % 32;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  const int y = warp / 2 * WARP_ROWS + lane / 4 * DOWN;              // the thread's first row in the tile
  const int x = warp % 2 * WARP_COLUMNS + lane % 4 * ACROSS;         // and its first column, of step 0
  float sums[DOWN][STEPS * ACROSS] = {};
  for (int k0 = 0; k0 < K; k0 += DEPTH) {
    for (int i = t; i < ROWS * DEPTH / 4; i += THREADS) {
      const int row = i / (DEPTH / 4), k = i % (DEPTH / 4) * 4;
      const float4 four = load4(a, row0 + row, k0 + k, M, K);
      tile_a[k][row] = four.x;
      tile_a[k + 1][row] = four.y;
      tile_a[k + 2][row] = four.z;
      tile_a[k + 3][row] = four.w;
    }
    for (int i = t; i < DEPTH * COLUMNS / 4; i += THREADS) {
      const int k = i / (COLUMNS / 4), column = i % (COLUMNS / 4) * 4;
      *reinterpret_cast<float4*>(&tile_b[k][column]) = load4(b, k0 + k, column0 + column, K, N);
    }
    __syncthreads();  // both tiles are there
    for (int k = 0; k < DEPTH; k++) {
      __align__(16) float down[DOWN], across[STEPS * ACROSS];
      for (int i = 0; i < DOWN; i += 4)
        *reinterpret_cast<float4*>(&down[i]) = *reinterpret_cast<const float4*>(&tile_a[k][y + i]);
      for (int s = 0; s < STEPS; s++)
        *reinterpret_cast<float4*>(&across[s * ACROSS]) = *reinterpret_cast<const float4*>(&tile_b[k][x + s * STEP_COLUMNS]);
      for (int i = 0; i < DOWN; i++)
        for (int j = 0; j < STEPS * ACROSS; j++) sums[i][j] += down[i] * across[j];
    }
    __syncthreads();  // nobody reads them any more
  }
  for (int i = 0; i < DOWN; i++) {
    if (row0 + y + i >= M) break;
    for (int s = 0; s < STEPS; s++) {
      const int column = column0 + x + s * STEP_COLUMNS;
      float* at = c + (size_t)(row0 + y + i) * N + column;
      const float* four = &sums[i][s * ACROSS];
      if (N % 4 == 0 && column < N)
        *reinterpret_cast<float4*>(at) = make_float4(four[0], four[1], four[2], four[3]);
      else
        for (int l = 0; l < 4; l++)
          if (column + l < N) at[l] = four[l];
    }
  }
}
