// matmul 06, vector loads: 16 bytes an instruction, from memory to shared memory and from there to registers.
//
// tile_a is stored transposed, so that the 8 numbers that a thread needs of it for one k lie side by side: two float4. Rows of a
// and b are read as float4 too, where K and N are multiples of 4; otherwise they do not begin at multiples of 16 bytes, and
// at the edges a float4 would stick out: there numbers are read one by one.

constexpr int ROWS = 128, COLUMNS = 128, DEPTH = 8, EACH = 8;
constexpr int THREADS = ROWS * COLUMNS / (EACH * EACH);

// Four numbers of row `row` from column `column` on; zeros beyond the edges of the matrix.
__device__ float4 load4(const float* matrix, int row, int column, int rows, int columns) {
  if (row >= rows) return make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  const float* at = matrix + (size_t)row * columns + column;
  if (columns % 4 == 0 && column < columns) return *reinterpret_cast<const float4*>(at);
  return make_float4(column < columns ? at[0] : 0.0f, column + 1 < columns ? at[1] : 0.0f, column + 2 < columns ? at[2] : 0.0f,
                     column + 3 < columns ? at[3] : 0.0f);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    matmul_forward_06_vector_loads(float* c, const float* a, const float* b, int M, int K, int N) {
  __shared__ __align__(16) float tile_a[DEPTH][ROWS];  // transposed
  __shared__ __align__(16) float tile_b[DEPTH][COLUMNS];
  const int t = threadIdx.x;
  const int row0 = blockIdx.y * ROWS, column0 = blockIdx.x * COLUMNS;
  const int x = t % (COLUMNS / EACH) * EACH, y = t / (COLUMNS / EACH) * EACH;
  const int a_row = t / (DEPTH / 4), a_k = t % (DEPTH / 4) * 4;  // each thread loads one float4 of a and one of b
  const int b_k = t / (COLUMNS / 4), b_column = t % (COLUMNS / 4) * 4;
  float sums[EACH][EACH] = {};
  for (int k0 = 0; k0 < K; k0 += DEPTH) {
    const float4 four = load4(a, row0 + a_row, k0 + a_k, M, K);
    tile_a[a_k][a_row] = four.x;
    tile_a[a_k + 1][a_row] = four.y;
    tile_a[a_k + 2][a_row] = four.z;
    tile_a[a_k + 3][a_row] = four.w;
    *reinterpret_cast<float4*>(&tile_b[b_k][b_column]) = load4(b, k0 + b_k, column0 + b_column, K, N);
    __syncthreads();  // both tiles are there
    for (int k = 0; k < DEPTH; k++) {
      __align__(16) float down[EACH], across[EACH];
      for (int i = 0; i < EACH; i += 4) {
        *reinterpret_cast<float4*>(&down[i]) = *reinterpret_cast<const float4*>(&tile_a[k][y + i]);
        *reinterpret_cast<float4*>(&across[i]) = *reinterpret_cast<const float4*>(&tile_b[k][x + i]);
      }
      for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) sums[i][j] += down[i] * across[j];
    }
    __syncthreads();  // nobody reads them any more
  }
  for (int i = 0; i < EACH; i++) {
    if (row0 + y + i >= M) break;
    float* at = c + (size_t)(row0 + y + i) * N + column0 + x;
    for (int j = 0; j < EACH; j += 4) {
      if (N % 4 == 0 && column0 + x + j < N)
        *reinterpret_cast<float4*>(at + j) = make_float4(sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]);
      else
        for (int l = j; l < j + 4; l++)
          if (column0 + x + l < N) at[l] = sums[i][l];
    }
  }
}
