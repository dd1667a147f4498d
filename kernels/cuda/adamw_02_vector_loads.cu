// adamw 02, vector loads: a thread takes four numbers of each of the arrays as one float4, and of the gradients where squares
// are summed.
//
// The last n % 4 numbers are read and written one by one. The mathematics, and the two stages of the sum, are rung 01's.

constexpr unsigned ALL = 0xffffffffu;
constexpr int THREADS = 256, SLAB = 4096;

struct Rates {
  float decay, beta1, rest1, beta2, rest2, step, root, eps, grad_scale;
};

__device__ void update(float& p, float grad, float& m, float& v, const Rates& r) {
  const float g = grad * r.grad_scale;
  m = r.beta1 * m + r.rest1 * g;
  v = r.beta2 * v + r.rest2 * g * g;
  p = p * r.decay - r.step * m / (sqrtf(v) * r.root + r.eps);
}

extern "C" __global__ void adamw_update_02_vector_loads(float* param, const float* grad, float* m, float* v, float decay,
                                                        float beta1, float rest1, float beta2, float rest2, float step,
                                                        float root, float eps, float grad_scale, int n) {
  const Rates rates = {decay, beta1, rest1, beta2, rest2, step, root, eps, grad_scale};
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 g = *reinterpret_cast<const float4*>(grad + i);
    float4 p = *reinterpret_cast<const float4*>(param + i);
    float4 m4 = *reinterpret_cast<const float4*>(m + i), v4 = *reinterpret_cast<const float4*>(v + i);
    update(p.x, g.x, m4.x, v4.x, rates);
    update(p.y, g.y, m4.y, v4.y, rates);
    update(p.z, g.z, m4.z, v4.z, rates);
    update(p.w, g.w, m4.w, v4.w, rates);
    *reinterpret_cast<float4*>(param + i) = p;
    *reinterpret_cast<float4*>(m + i) = m4;
    *reinterpret_cast<float4*>(v + i) = v4;
    return;
  }
  for (int j = i; j < n; j++) update(param[j], grad[j], m[j], v[j], rates);
}

__device__ double block_sum(double sum, double* of_warps) {
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = sum;
  __syncthreads();  // every warp's sum is there
  double total = 0.0;
  for (int w = 0; w < THREADS / 32; w++) total += of_warps[w];
  return total;
}

extern "C" __global__ void __launch_bounds__(THREADS) squared_norm_02_slabs(double* parts, const float* grad, int n) {
  __shared__ double of_warps[THREADS / 32];
  const int first = blockIdx.x * SLAB, last = n - first > SLAB ? first + SLAB : n;
  double sum = 0.0;
  for (int i = first + 4 * threadIdx.x; i < last; i += 4 * THREADS) {
    if (i + 4 <= n) {
      const float4 g = *reinterpret_cast<const float4*>(grad + i);
      sum += ((double)g.x * g.x + (double)g.y * g.y) + ((double)g.z * g.z + (double)g.w * g.w);
    } else {
      for (int j = i; j < n; j++) sum += (double)grad[j] * grad[j];
    }
  }
  sum = block_sum(sum, of_warps);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) squared_norm_02_total(double* total, const double* parts, int slabs) {
  __shared__ double of_warps[THREADS / 32];
  double sum = 0.0;
  for (int i = threadIdx.x; i < slabs; i += THREADS) sum += parts[i];
  sum = block_sum(sum, of_warps);
  if (threadIdx.x == 0) total[0] = sum;
}

extern "C" __global__ void scale_02_in_place(float* grad, float factor, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= n) {
    const float4 g = *reinterpret_cast<const float4*>(grad + i);
    *reinterpret_cast<float4*>(grad + i) = make_float4(g.x * factor, g.y * factor, g.z * factor, g.w * factor);
    return;
  }
  for (int j = i; j < n; j++) grad[j] *= factor;
}
