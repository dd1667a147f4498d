// cross_entropy 01, warp per row: the loss of a row is made where the row is read, and no softmax is ever stored.
//
// With m = max x, total = sum e^(x_k - m) and a target t that deserves q_k = (1 - smoothing) [k = t] + smoothing / V:
//     loss = log total + sum q_k (m - x_k)       dx_k = dy / count (e^(x_k - m) / total - q_k)
// The forward keeps m and total, 8 bytes a row, and the vjp makes the exponentials again. (Their logsumexp m + log total, as one
// number, would round away the digits of a small logarithm beside a large m.) Rows whose target is IGNORED are not read; `count`
// is how many the others are. Losses are averaged by one block, in the same order at each run. logits, dx: R rows of V classes.

constexpr float LOWEST = -3.402823466e+38f;  // the most negative float: below it lies only -infinity
constexpr unsigned ALL = 0xffffffffu;
constexpr int IGNORED = -1, WARPS = 8;

__device__ float warp_max(float v) {
  for (int away = 16; away > 0; away /= 2) v = fmaxf(v, __shfl_xor_sync(ALL, v, away));
  return v;
}

__device__ float warp_sum(float v) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  return v;
}

// sum q_k (m - x_k). What weighs nothing is left out: a class ruled out by a logit of -infinity would make 0 * infinity.
__device__ float deserved(float of_target, float of_all, float smoothing, int V) {
  return (smoothing < 1.0f ? (1.0f - smoothing) * of_target : 0.0f) + (smoothing > 0.0f ? smoothing / V * of_all : 0.0f);
}

extern "C" __global__ void cross_entropy_forward_01_warp_per_row(float* losses, float* maxima, float* totals,
                                                                 const float* logits, const int* targets, float smoothing,
                                                                 int R, int V) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  const int target = targets[row];
  if (target == IGNORED) {
    if (lane == 0) losses[row] = 0.0f;
    return;
  }
  const float* x = logits + (size_t)row * V;
  float m = LOWEST, total = 0.0f, below = 0.0f;
  for (int j = lane; j < V; j += 32) m = fmaxf(m, x[j]);
  m = warp_max(m);
  for (int j = lane; j < V; j += 32) {
    total += expf(x[j] - m);
    below += m - x[j];
  }
  total = warp_sum(total);
  below = warp_sum(below);
  if (lane > 0) return;
  maxima[row] = m;
  totals[row] = total;
  losses[row] = logf(total) + deserved(m - x[target], below, smoothing, V);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    cross_entropy_forward_01_mean(float* loss, const float* losses, int count, int R) {
  __shared__ float sums[WARPS];
  float sum = 0.0f;
  for (int i = threadIdx.x; i < R; i += blockDim.x) sum += losses[i];
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();  // every warp's sum is there
  if (threadIdx.x > 0) return;
  for (int w = 1; w < WARPS; w++) sum += sums[w];
  loss[0] = sum / count;
}

extern "C" __global__ void cross_entropy_vjp_01_warp_per_row(float* dx, const float* dy, const float* logits, const int* targets,
                                                             const float* maxima, const float* totals, int count,
                                                             float smoothing, int R, int V) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;
  const float share = dy[0] / count;
  const float* x = logits + (size_t)row * V;
  dx += (size_t)row * V;
  const int target = targets[row];
  if (target == IGNORED) {
    for (int j = lane; j < V; j += 32) dx[j] = 0.0f * share;  // NaN where dy is
    return;
  }
  const float m = maxima[row], scale = share / totals[row], hit = (1.0f - smoothing) * share, all = smoothing / V * share;
  for (int j = lane; j < V; j += 32) dx[j] = expf(x[j] - m) * scale - all - (j == target ? hit : 0.0f);
}
