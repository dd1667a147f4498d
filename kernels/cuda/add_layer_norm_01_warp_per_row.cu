// add_layer_norm 01, warp per row: s = x + residual is made, written and normalised by the warp that reads the row.
//
//     h = (s - mean) r,   r = 1 / sqrt(variance + eps),   y = h weight + bias
//     g = dy weight,   dx = dresidual = ds + r (g - mean(g) - h mean(g h))
//
// x and residual are read once; the two other walks read s, which each lane wrote itself. The gradients of weight and bias are
// those of layer_norm at s: its rung 02 makes them. s, x, residual, y, dy, ds, dx: R rows of C numbers.

constexpr unsigned ALL = 0xffffffffu;

__device__ float warp_sum(float v) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  return v;
}

extern "C" __global__ void add_layer_norm_forward_01_warp_per_row(float* y, float* s, float* means, float* scales, const float* x,
                                                                  const float* residual, const float* weight, const float* bias,
                                                                  int has_bias, int R, int C, float eps) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  x += (size_t)row * C;
  residual += (size_t)row * C;
  s += (size_t)row * C;
  y += (size_t)row * C;
  float mean = 0.0f, variance = 0.0f;
  for (int j = lane; j < C; j += 32) {
    s[j] = x[j] + residual[j];
    mean += s[j];
  }
  mean = warp_sum(mean) / C;
  for (int j = lane; j < C; j += 32) variance += (s[j] - mean) * (s[j] - mean);
  const float r = 1.0f / sqrtf(warp_sum(variance) / C + eps);
  if (lane == 0) {
    means[row] = mean;
    scales[row] = r;
  }
  for (int j = lane; j < C; j += 32) y[j] = (s[j] - mean) * r * weight[j] + (has_bias ? bias[j] : 0.0f);
}

extern "C" __global__ void add_layer_norm_vjp_01_warp_per_row(float* dx, const float* dy, const float* ds, int has_ds,
                                                              const float* s, const float* weight, const float* means,
                                                              const float* scales, int R, int C) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;
  s += (size_t)row * C;
  dy += (size_t)row * C;
  ds += (size_t)row * C;
  dx += (size_t)row * C;
  const float mean = means[row], r = scales[row];
  float mean_g = 0.0f, mean_gh = 0.0f;
  for (int j = lane; j < C; j += 32) {
    const float g = dy[j] * weight[j];
    mean_g += g;
    mean_gh += g * (s[j] - mean) * r;
  }
  mean_g = warp_sum(mean_g) / C;
  mean_gh = warp_sum(mean_gh) / C;
  for (int j = lane; j < C; j += 32)
    dx[j] = r * (dy[j] * weight[j] - mean_g - (s[j] - mean) * r * mean_gh) + (has_ds ? ds[j] : 0.0f);
}
