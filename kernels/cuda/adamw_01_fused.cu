// adamw 01, fused: one pass over parameters that lie flat, a thread for each number; and clipping by the global norm.
//
//     p <- p (1 - lr wd);   m <- b1 m + (1 - b1) g;   v <- b2 v + (1 - b2) g^2
//     p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)        g: the gradient times grad_scale, the clipping factor
//
// (Loshchilov and Hutter 2019). What does not depend on the number comes from the launcher, which makes it in float64:
// decay = 1 - lr wd, step = lr / (1 - b1^t), root = 1 / sqrt(1 - b2^t), rest1 = 1 - b1, rest2 = 1 - b2.
//
// The sum of squares has two stages and no atomics, so that it is the same at each run. A block adds a slab of 4096 numbers in
// float64: each thread every 256th of them, then a butterfly in each warp, then the 8 warps in their order. One more block adds
// the sums of the slabs in the same way.

constexpr unsigned ALL = 0xffffffffu;
constexpr int THREADS = 256, SLAB = 4096;

extern "C" __global__ void adamw_update_01_fused(float* param, const float* grad, float* m, float* v, float decay, float beta1,
                                                 float rest1, float beta2, float rest2, float step, float root, float eps,
                                                 float grad_scale, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float g = grad[i] * grad_scale;
  m[i] = beta1 * m[i] + rest1 * g;
  v[i] = beta2 * v[i] + rest2 * g * g;
  param[i] = param[i] * decay - step * m[i] / (sqrtf(v[i]) * root + eps);
}

__device__ double block_sum(double sum, double* of_warps) {
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();  // every warp's sum is there
  double total = 0.0;
  for (int w = 0; w < THREADS / 32; w++) total += of_warps[w];
  return total;
}

extern "C" __global__ void __launch_bounds__(THREADS) squared_norm_01_slabs(double* parts, const float* grad, int n) {
  __shared__ double of_warps[THREADS / 32];
  const int first = blockIdx.x * SLAB, last = n - first > SLAB ? first + SLAB : n;
  double sum = 0.0;
  for (int i = first + threadIdx.x; i < last; i += THREADS) sum += (double)grad[i] * grad[i];
  sum = block_sum(sum, of_warps);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) squared_norm_01_total(double* total, const double* parts, int slabs) {
  __shared__ double of_warps[THREADS / 32];
  double sum = 0.0;
  for (int i = threadIdx.x; i < slabs; i += THREADS) sum += parts[i];
  sum = block_sum(sum, of_warps);
  if (threadIdx.x == 0) total[0] = sum;
}

extern "C" __global__ void scale_01_in_place(float* grad, float factor, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) grad[i] *= factor;
}
