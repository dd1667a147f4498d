// log_softmax 02, warp per row: 32 lanes walk a row side by side, and shuffles combine what each of them found.
//
// Reads are coalesced now. A butterfly of 5 shuffles leaves the maximum, or the sum, in all lanes. The vjp adds up dy alone: y is
// not read before the second walk. x, y, dy, dx: R rows of N numbers.

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;

__device__ float warp_max(float v) {
  for (int away = 16; away > 0; away /= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, away));
  return v;
}

__device__ float warp_sum(float v) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  return v;
}

extern "C" __global__ void log_softmax_forward_02_warp_per_row(float* y, const float* x, int R, int N) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  x += (size_t)row * N;
  y += (size_t)row * N;
  float m = LOWEST;
  for (int j = lane; j < N; j += 32) m = fmaxf(m, x[j]);
  m = warp_max(m);
  float total = 0.0f;
  for (int j = lane; j < N; j += 32) total += expf(x[j] - m);
  const float log_total = logf(warp_sum(total));
  for (int j = lane; j < N; j += 32) y[j] = (x[j] - m) - log_total;
}

extern "C" __global__ void log_softmax_vjp_02_warp_per_row(float* dx, const float* dy, const float* y, int R, int N) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;
  dy += (size_t)row * N;
  y += (size_t)row * N;
  dx += (size_t)row * N;
  float total = 0.0f;
  for (int j = lane; j < N; j += 32) total += dy[j];
  total = warp_sum(total);
  for (int j = lane; j < N; j += 32) dx[j] = dy[j] - expf(y[j]) * total;
}
