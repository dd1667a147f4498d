// log_softmax 03, block per row: all warps of a block share one row; shuffles inside of a warp, shared memory between them.
//
// A long row keeps 8 warps busy where rung 02 gave it one. Each warp leaves its result in shared memory, and after a barrier every
// thread combines all of them (in the same order, so all get the same bits). x, y, dy, dx: R rows of N numbers.

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;
constexpr int WARPS = 8;

__device__ float block_max(float v, float* of_warps) {
  for (int away = 16; away > 0; away /= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, away));
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = v;
  __syncthreads();  // every warp's maximum is there
  for (int w = 0; w < WARPS; w++) v = fmaxf(v, of_warps[w]);
  return v;
}

__device__ float block_sum(float v, float* of_warps) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = v;
  __syncthreads();  // every warp's sum is there
  float total = 0.0f;
  for (int w = 0; w < WARPS; w++) total += of_warps[w];
  return total;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    log_softmax_forward_03_block_per_row(float* y, const float* x, int R, int N) {
  __shared__ float maxima[WARPS], sums[WARPS];  // one array for both would need one barrier more between them
  x += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  float m = LOWEST;
  for (int j = threadIdx.x; j < N; j += blockDim.x) m = fmaxf(m, x[j]);
  m = block_max(m, maxima);
  float total = 0.0f;
  for (int j = threadIdx.x; j < N; j += blockDim.x) total += expf(x[j] - m);
  const float log_total = logf(block_sum(total, sums));
  for (int j = threadIdx.x; j < N; j += blockDim.x) y[j] = (x[j] - m) - log_total;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    log_softmax_vjp_03_block_per_row(float* dx, const float* dy, const float* y, int R, int N) {
  __shared__ float sums[WARPS];
  dy += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  dx += (size_t)blockIdx.x * N;
  float total = 0.0f;
  for (int j = threadIdx.x; j < N; j += blockDim.x) total += dy[j];
  total = block_sum(total, sums);
  for (int j = threadIdx.x; j < N; j += blockDim.x) dx[j] = dy[j] - expf(y[j]) * total;
}
