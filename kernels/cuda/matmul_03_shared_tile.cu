// matmul 03, shared tile: a block loads a 32 x 32 tile of a and of b once, and all its threads read them from shared memory.
//
// Each number that comes from memory is used 32 times. Beyond the edges the tiles hold zeros, which add nothing, so no thread
// may leave early: all of them are needed at the barriers.

constexpr int TILE = 32;

extern "C" __global__ void __launch_bounds__(TILE* TILE)
    matmul_forward_03_shared_tile(float* c, const float* a, const float* b, int M, int K, int N) {
  __shared__ float tile_a[TILE][TILE], tile_b[TILE][TILE];
  const int x = threadIdx.x, y = threadIdx.y;
  const int row = blockIdx.y * TILE + y, column = blockIdx.x * TILE + x;
  float sum = 0.0f;
  for (int k0 = 0; k0 < K; k0 += TILE) {
    tile_a[y][x] = row < M && k0 + x < K ? a[(size_t)row * K + k0 + x] : 0.0f;
    tile_b[y][x] = k0 + y < K && column < N ? b[(size_t)(k0 + y) * N + column] : 0.0f;
    __syncthreads();  // both tiles are there
    for (int k = 0; k < TILE; k++) sum += tile_a[y][k] * tile_b[k][x];
    __syncthreads();  // nobody reads them any more
  }
  if (row < M && column < N) c[(size_t)row * N + column] = sum;
}
