// matmul 05, register tile: a thread computes 8 x 8 numbers of c, so 16 reads of shared memory do for 64 products.
//
// The tile of c is 128 x 128 for 256 threads. Each step of k takes a column of 8 numbers of tile_a and a row of 8 of tile_b into
// registers and multiplies each with each (an outer product): 4 products a read, where rung 04 has less than one.

constexpr int ROWS = 128, COLUMNS = 128, DEPTH = 8, EACH = 8;
constexpr int THREADS = ROWS * COLUMNS / (EACH * EACH);

extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_forward_05_register_tile(float* c, const float* a, const float* b, int M, int K, int N) {
  __shared__ float tile_a[ROWS][DEPTH], tile_b[DEPTH][COLUMNS];
  const int t = threadIdx.x;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  const int x = t % (COLUMNS / EACH) * EACH, y = t / (COLUMNS / EACH) * EACH;  // the corner of the thread's 8 x 8
  float sums[EACH][EACH] = {};
  for (int k0 = 0; k0 < K; k0 += DEPTH) {
    for (int i = t; i < ROWS * DEPTH; i += THREADS) {  // 4 numbers of a for each thread, 4 of b
      const int row = i / DEPTH, k = i % DEPTH;
      tile_a[row][k] = row0 + row < M && k0 + k < K ? a[(size_t)(row0 + row) * K + k0 + k] : 0.0f;
    }
    for (int i = t; i < DEPTH * COLUMNS; i += THREADS) {
      const int k = i / COLUMNS, column = i % COLUMNS;
      tile_b[k][column] = k0 + k < K && column0 + column < N ? b[(size_t)(k0 + k) * N + column0 + column] : 0.0f;
    }
    __syncthreads();  // both tiles are there
    for (int k = 0; k < DEPTH; k++) {
      float down[EACH], across[EACH];
      for (int i = 0; i < EACH; i++) down[i] = tile_a[y + i][k];
      for (int j = 0; j < EACH; j++) across[j] = tile_b[k][x + j];
      for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) sums[i][j] += down[i] * across[j];
    }
    __syncthreads();  // nobody reads them any more
  }
  for (int i = 0; i < EACH; i++)
    for (int j = 0; j < EACH; j++)
      if (row0 + y + i < M && column0 + x + j < N) c[(size_t)(row0 + y + i) * N + column0 + x + j] = sums[i][j];
}
