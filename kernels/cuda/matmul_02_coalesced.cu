// matmul 02, coalesced: neighbouring threads take neighbouring columns, so that a warp reads one piece of a row of b.
//
// Nothing but the roles of x and y changed. Now the 32 lanes read the same number of a (one broadcast) and 32 numbers of b that
// lie side by side (one transaction of 128 bytes), and write c side by side.

extern "C" __global__ void matmul_forward_02_coalesced(float* c, const float* a, const float* b, int M, int K, int N) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  const int row = blockIdx.y * blockDim.y + threadIdx.y;
  if (row >= M || column >= N) return;
  float sum = 0.0f;
  for (int k = 0; k < K; k++) sum += a[(size_t)row * K + k] * b[(size_t)k * N + column];
  c[(size_t)row * N + column] = sum;
}
