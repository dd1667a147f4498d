// log_softmax 04, online: maximum and sum in one walk over the row, so x is read twice where rung 03 reads it three times.
//
// A thread keeps m, the largest so far, and total = sum e^(x - m). A larger m makes what was summed before smaller by
// e^(old m - new m) (Milakov and Gimelshein, 2018). Two such pairs combine in the same way, whatever their order:
//     m = max(m1, m2),   total = total1 e^(m1 - m) + total2 e^(m2 - m)
// The second walk needs no exponential. The vjp is rung 03's, repeated here so that the file is complete.
// x, y, dy, dx: R rows of N numbers.

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;
constexpr int WARPS = 8;

__device__ void combine(float& m, float& total, float other_m, float other_total) {
  const float larger = fmaxf(m, other_m);
  total = total * expf(m - larger) + other_total * expf(other_m - larger);
  m = larger;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) log_softmax_forward_04_online(float* y, const float* x, int R, int N) {
  __shared__ float maxima[WARPS], totals[WARPS];
  x += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  float m = LOWEST, total = 0.0f;
  for (int j = threadIdx.x; j < N; j += blockDim.x) {
    const float larger = fmaxf(m, x[j]);
    total = total * expf(m - larger) + expf(x[j] - larger);
    m = larger;
  }
  for (int away = 16; away > 0; away /= 2) {
    const float other_m = __shfl_xor_sync(ALL, m, away), other_total = __shfl_xor_sync(ALL, total, away);
    combine(m, total, other_m, other_total);
  }
  if (threadIdx.x % 32 == 0) {
    maxima[threadIdx.x / 32] = m;
    totals[threadIdx.x / 32] = total;
  }
  __syncthreads();  // every warp's pair is there
  m = maxima[0];
  total = totals[0];
  for (int w = 1; w < WARPS; w++) combine(m, total, maxima[w], totals[w]);
  const float log_total = logf(total);
  for (int j = threadIdx.x; j < N; j += blockDim.x) y[j] = (x[j] - m) - log_total;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    log_softmax_vjp_04_online(float* dx, const float* dy, const float* y, int R, int N) {
  __shared__ float sums[WARPS];
  dy += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  dx += (size_t)blockIdx.x * N;
  float total = 0.0f;
  for (int j = threadIdx.x; j < N; j += blockDim.x) total += dy[j];
  for (int away = 16; away > 0; away /= 2) total += __shfl_xor_sync(ALL, total, away);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = total;
  __syncthreads();  // every warp's sum is there
  total = 0.0f;
  for (int w = 0; w < WARPS; w++) total += sums[w];
  for (int j = threadIdx.x; j < N; j += blockDim.x) dx[j] = dy[j] - expf(y[j]) * total;
}
