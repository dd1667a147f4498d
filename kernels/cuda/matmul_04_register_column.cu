// matmul 04, register column: a thread computes 8 numbers of one column of c, so a number of tile_b is read once for 8 products.
//
// In rung 03 each product needs two reads of shared memory; here 9 reads do for 8 products. The tile of c is 64 x 64, for which
// 64 x 8 of a and 8 x 64 of b are loaded at a time: one number of each for each of the 512 threads.

constexpr int ROWS = 64, COLUMNS = 64, DEPTH = 8, EACH = 8;

extern "C" __global__ void __launch_bounds__(ROWS* COLUMNS / EACH)
    matmul_forward_04_register_column(float* c, const float* a, const float* b, int M, int K, int N) {
  __shared__ float tile_a[ROWS][DEPTH], tile_b[DEPTH][COLUMNS];
  const int t = threadIdx.x;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  const int x = t % COLUMNS, y = t / COLUMNS * EACH;  // the thread's column, and the first of its rows, in the tile
  const int a_row = t / DEPTH, a_k = t % DEPTH;       // what it loads of a
  const int b_k = t / COLUMNS, b_column = t % COLUMNS;
  float sums[EACH] = {};
  for (int k0 = 0; k0 < K; k0 += DEPTH) {
    tile_a[a_row][a_k] = row0 + a_row < M && k0 + a_k < K ? a[(size_t)(row0 + a_row) * K + k0 + a_k] : 0.0f;
    tile_b[b_k][b_column] = k0 + b_k < K && column0 + b_column < N ? b[(size_t)(k0 + b_k) * N + column0 + b_column] : 0.0f;
    __syncthreads();  // both tiles are there
    for (int k = 0; k < DEPTH; k++) {
      const float once = tile_b[k][x];
      for (int i = 0; i < EACH; i++) sums[i] += tile_a[y + i][k] * once;
    }
    __syncthreads();  // nobody reads them any more
  }
  for (int i = 0; i < EACH; i++)
    if (row0 + y + i < M && column0 + x < N) c[(size_t)(row0 + y + i) * N + column0 + x] = sums[i];
}
