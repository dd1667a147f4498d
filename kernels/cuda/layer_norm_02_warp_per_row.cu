// layer_norm 02, warp per row: lanes walk a row side by side and shuffles add up; columns are summed in slabs of rows.
//
// The mathematics is rung 01's. There a column's thread walks all R rows alone. Here a block of 32 x 8 threads takes 32 columns of
// a slab of 64 rows: each of its 8 rows of threads adds every eighth row, shared memory adds the 8 sums, and one row of `parts`
// (slabs, C) takes the result. A second kernel adds the slabs in their order: no atomics, the same bits at each run.

constexpr unsigned ALL = 0xffffffffu;
constexpr int SLAB = 64, COLUMNS = 32, DOWN = 8;

__device__ float warp_sum(float v) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  return v;
}

extern "C" __global__ void layer_norm_forward_02_warp_per_row(float* y, float* means, float* scales, const float* x,
                                                              const float* weight, const float* bias, int has_bias, int R, int C,
                                                              float eps) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  x += (size_t)row * C;
  y += (size_t)row * C;
  float mean = 0.0f, variance = 0.0f;
  for (int j = lane; j < C; j += 32) mean += x[j];
  mean = warp_sum(mean) / C;
  for (int j = lane; j < C; j += 32) variance += (x[j] - mean) * (x[j] - mean);
  const float r = 1.0f / sqrtf(warp_sum(variance) / C + eps);
  if (lane == 0) {
    means[row] = mean;
    scales[row] = r;
  }
  for (int j = lane; j < C; j += 32) y[j] = (x[j] - mean) * r * weight[j] + (has_bias ? bias[j] : 0.0f);
}

extern "C" __global__ void layer_norm_vjp_02_warp_per_row(float* dx, const float* dy, const float* x, const float* weight,
                                                          const float* means, const float* scales, int R, int C) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;
  x += (size_t)row * C;
  dy += (size_t)row * C;
  dx += (size_t)row * C;
  const float mean = means[row], r = scales[row];
  float mean_g = 0.0f, mean_gh = 0.0f;
  for (int j = lane; j < C; j += 32) {
    const float g = dy[j] * weight[j];
    mean_g += g;
    mean_gh += g * (x[j] - mean) * r;
  }
  mean_g = warp_sum(mean_g) / C;
  mean_gh = warp_sum(mean_gh) / C;
  for (int j = lane; j < C; j += 32) dx[j] = r * (dy[j] * weight[j] - mean_g - (x[j] - mean) * r * mean_gh);
}

extern "C" __global__ void __launch_bounds__(COLUMNS* DOWN)
    layer_norm_vjp_02_slabs(float* weight_parts, float* bias_parts, const float* dy, const float* x, const float* means,
                            const float* scales, int R, int C) {
  __shared__ float of_weight[DOWN][COLUMNS], of_bias[DOWN][COLUMNS];
  const int j = blockIdx.x * COLUMNS + threadIdx.x, y = threadIdx.y;
  const int first = blockIdx.y * SLAB, last = min(R, first + SLAB);
  float weight_sum = 0.0f, bias_sum = 0.0f;
  if (j < C)
    for (int i = first + y; i < last; i += DOWN) {
      const float d = dy[(size_t)i * C + j];
      weight_sum += d * (x[(size_t)i * C + j] - means[i]) * scales[i];
      bias_sum += d;
    }
  of_weight[y][threadIdx.x] = weight_sum;
  of_bias[y][threadIdx.x] = bias_sum;
  __syncthreads();  // the sums of all 8 rows of threads are there
  if (y > 0 || j >= C) return;
  for (int k = 1; k < DOWN; k++) {
    weight_sum += of_weight[k][threadIdx.x];
    bias_sum += of_bias[k][threadIdx.x];
  }
  weight_parts[(size_t)blockIdx.y * C + j] = weight_sum;
  bias_parts[(size_t)blockIdx.y * C + j] = bias_sum;
}

extern "C" __global__ void layer_norm_vjp_02_add_slabs(float* dweight, float* dbias, const float* weight_parts,
                                                       const float* bias_parts, int slabs, int C) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= C) return;
  float of_weight = 0.0f, of_bias = 0.0f;
  for (int s = 0; s < slabs; s++) {
    of_weight += weight_parts[(size_t)s * C + j];
    of_bias += bias_parts[(size_t)s * C + j];
  }
  dweight[j] = of_weight;
  dbias[j] = of_bias;
}
