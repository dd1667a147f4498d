// layer_norm 01, thread per row: h = (x - mean) r, r = 1 / sqrt(variance + eps), y = h weight + bias, as the textbook has it.
//
//     g = dy weight,   dx = r (g - mean(g) - h mean(g h)),   dweight_j = sum_i dy_ij h_ij,   dbias_j = sum_i dy_ij
//
// dx belongs to rows and the two others to columns, so they are two kernels: a thread for each row, and one for each column,
// which adds the rows in their order. No two threads write to one place. x, dy, dx: R rows of C numbers.

extern "C" __global__ void layer_norm_forward_01_thread_per_row(float* y, float* means, float* scales, const float* x,
                                                                const float* weight, const float* bias, int has_bias, int R,
                                                                int C, float eps) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  x += (size_t)row * C;
  y += (size_t)row * C;
  float mean = 0.0f, variance = 0.0f;
  for (int j = 0; j < C; j++) mean += x[j];
  mean /= C;
  for (int j = 0; j < C; j++) variance += (x[j] - mean) * (x[j] - mean);
  const float r = 1.0f / sqrtf(variance / C + eps);
  means[row] = mean;
  scales[row] = r;
  for (int j = 0; j < C; j++) y[j] = (x[j] - mean) * r * weight[j] + (has_bias ? bias[j] : 0.0f);
}

extern "C" __global__ void layer_norm_vjp_01_thread_per_row(float* dx, const float* dy, const float* x, const float* weight,
                                                            const float* means, const float* scales, int R, int C) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= R) return;
  x += (size_t)row * C;
  dy += (size_t)row * C;
  dx += (size_t)row * C;
  const float mean = means[row], r = scales[row];
  float mean_g = 0.0f, mean_gh = 0.0f;
  for (int j = 0; j < C; j++) {
    const float g = dy[j] * weight[j];
    mean_g += g;
    mean_gh += g * (x[j] - mean) * r;
  }
  mean_g /= C;
  mean_gh /= C;
  for (int j = 0; j < C; j++) dx[j] = r * (dy[j] * weight[j] - mean_g - (x[j] - mean) * r * mean_gh);
}

extern "C" __global__ void layer_norm_vjp_01_thread_per_column(float* dweight, float* dbias, const float* dy, const float* x,
                                                               const float* means, const float* scales, int R, int C) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= C) return;
  float of_weight = 0.0f, of_bias = 0.0f;
  for (int i = 0; i < R; i++) {
    const float d = dy[(size_t)i * C + j];
    of_weight += d * (x[(size_t)i * C + j] - means[i]) * scales[i];
    of_bias += d;
  }
  dweight[j] = of_weight;
  dbias[j] = of_bias;
}
