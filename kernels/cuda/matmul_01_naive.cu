// matmul 01, naive: one thread computes one number of c, and neighbouring threads (threadIdx.x) take neighbouring rows.
//
// c (M, N) = a (M, K) b (K, N), all row-major. The 32 lanes of a warp read 32 rows of a at once, K numbers apart: 32 separate
// transactions for what could be one. Read this rung first.

extern "C" __global__ void matmul_forward_01_naive(float* c, const float* a, const float* b, int M, int K, int N) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  const int column = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= M || column >= N) return;  // the last blocks stick out
  float sum = 0.0f;
  for (int k = 0; k < K; k++) sum += a[(size_t)row * K + k] * b[(size_t)k * N + column];
  c[(size_t)row * N + column] = sum;
}
