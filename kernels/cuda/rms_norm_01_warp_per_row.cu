// rms_norm 01, warp per row: r = 1 / sqrt(mean(x^2) + eps), h = x r, y = h weight; layer_norm's rung 02 without the mean.
//
//     g = dy weight,   dx = r (g - h mean(g h)),   dweight_j = sum_i dy_ij h_ij
//
// dweight is summed in slabs of 64 rows, whose parts (slabs, C) a second kernel adds in their order: no atomics.
// x, dy, dx: R rows of C numbers.

constexpr unsigned ALL = 0xffffffffu;
constexpr int SLAB = 64, COLUMNS = 32, DOWN = 8;

__device__ float warp_sum(float v) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  return v;
}

extern "C" __global__ void rms_norm_forward_01_warp_per_row(float* y, float* scales, const float* x, const float* weight, int R,
                                                            int C, float eps) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  x += (size_t)row * C;
  y += (size_t)row * C;
  float squares = 0.0f;
  for (int j = lane; j < C; j += 32) squares += x[j] * x[j];
  const float r = 1.0f / sqrtf(warp_sum(squares) / C + eps);
  if (lane == 0) scales[row] = r;
  for (int j = lane; j < C; j += 32) y[j] = x[j] * r * weight[j];
}

extern "C" __global__ void rms_norm_vjp_01_warp_per_row(float* dx, const float* dy, const float* x, const float* weight,
                                                        const float* scales, int R, int C) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;
  x += (size_t)row * C;
  dy += (size_t)row * C;
  dx += (size_t)row * C;
  const float r = scales[row];
  float mean_gh = 0.0f;
  for (int j = lane; j < C; j += 32) mean_gh += dy[j] * weight[j] * x[j] * r;
  mean_gh = warp_sum(mean_gh) / C;
  for (int j = lane; j < C; j += 32) dx[j] = r * (dy[j] * weight[j] - x[j] * r * mean_gh);
}

extern "C" __global__ void __launch_bounds__(COLUMNS* DOWN)
    rms_norm_vjp_01_slabs(float* parts, const float* dy, const float* x, const float* scales, int R, int C) {
  __shared__ float sums[DOWN][COLUMNS];
  const int j = blockIdx.x * COLUMNS + threadIdx.x, y = threadIdx.y;
  const int first = blockIdx.y * SLAB, last = min(R, first + SLAB);
  float sum = 0.0f;
  if (j < C)
    for (int i = first + y; i < last; i += DOWN) sum += dy[(size_t)i * C + j] * x[(size_t)i * C + j] * scales[i];
  sums[y][threadIdx.x] = sum;
  __syncthreads();  // the sums of all 8 rows of threads are there
  if (y > 0 || j >= C) return;
  for (int k = 1; k < DOWN; k++) sum += sums[k][threadIdx.x];
  parts[(size_t)blockIdx.y * C + j] = sum;
}

extern "C" __global__ void rms_norm_vjp_01_add_slabs(float* dweight, const float* parts, int slabs, int C) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x;
  if (j >= C) return;
  float sum = 0.0f;
  for (int s = 0; s < slabs; s++) sum += parts[(size_t)s * C + j];
  dweight[j] = sum;
}
