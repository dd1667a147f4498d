// cross_entropy 02, block online: a row is read once, 16 bytes a load, by all warps of a block.
//
// The mathematics is rung 01's. A thread keeps of the n numbers that it met the largest, m, and with it
//     total = sum e^(x - m),   below = sum (m - x);   a larger m' makes of them total e^(m - m') and below + n (m' - m)
// so one walk finds all three (the first is of Milakov and Gimelshein, 2018), and two such sums are added after the smaller m
// was raised to the larger one. A vocabulary is seldom a multiple of 4 (GPT-2's has 50257 classes): then rows begin anywhere, and
// up to 3 numbers before the first multiple of 16 bytes, and after the last, are taken by themselves.
// logits, dx: R rows of V classes, from a multiple of 16 bytes on.

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;
constexpr int IGNORED = -1, WARPS = 8, THREADS = 32 * WARPS;

struct Sums {
  float m, total, below;
  int n;
};

__device__ Sums raised(Sums s, float larger) {
  return {larger, s.total * expf(s.m - larger), s.n > 0 ? s.below + s.n * (larger - s.m) : 0.0f, s.n};
}

__device__ Sums combined(Sums a, Sums b) {
  const float larger = fmaxf(a.m, b.m);
  a = raised(a, larger);
  b = raised(b, larger);
  return {larger, a.total + b.total, a.below + b.below, a.n + b.n};
}

__device__ Sums with_one(Sums s, float x) { return combined(s, {x, 1.0f, 0.0f, 1}); }

__device__ Sums with_four(Sums s, float4 x) {
  const float larger = fmaxf(fmaxf(fmaxf(s.m, x.x), x.y), fmaxf(x.z, x.w));
  s = raised(s, larger);
  s.total += (expf(x.x - larger) + expf(x.y - larger)) + (expf(x.z - larger) + expf(x.w - larger));
  s.below += ((larger - x.x) + (larger - x.y)) + ((larger - x.z) + (larger - x.w));
  s.n += 4;
  return s;
}

// How many numbers of a row that begins at `first` come before a multiple of 16 bytes.
__device__ int before_fours(size_t first, int V) { return min((int)((4 - first % 4) % 4), V); }

// sum q_k (m - x_k). What weighs nothing is left out: a class ruled out by a logit of -infinity would make 0 * infinity.
__device__ float deserved(float of_target, float of_all, float smoothing, int V) {
  return (smoothing < 1.0f ? (1.0f - smoothing) * of_target : 0.0f) + (smoothing > 0.0f ? smoothing / V * of_all : 0.0f);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy_forward_02_block_online(float* losses, float* maxima, float* totals, const float* logits, const int* targets,
                                          float smoothing, int R, int V) {
  __shared__ Sums of_warps[WARPS];
  const int row = blockIdx.x, t = threadIdx.x, target = targets[row];
  if (target == IGNORED) {
    if (t == 0) losses[row] = 0.0f;
    return;  // the whole block leaves
  }
  const size_t first = (size_t)row * V;
  const float* x = logits + first;
  const int head = before_fours(first, V), tail = V - (V - head) % 4;
  Sums s = {LOWEST, 0.0f, 0.0f, 0};
  if (t < head) s = with_one(s, x[t]);
  for (int j = head + 4 * t; j < tail; j += 4 * THREADS) s = with_four(s, *reinterpret_cast<const float4*>(x + j));
  if (tail + t < V) s = with_one(s, x[tail + t]);
  for (int away = 16; away > 0; away /= 2)
    s = combined(s, {__shfl_xor_sync(ALL, s.m, away), __shfl_xor_sync(ALL, s.total, away), __shfl_xor_sync(ALL, s.below, away),
                     __shfl_xor_sync(ALL, s.n, away)});
  if (t % 32 == 0) of_warps[t / 32] = s;
  __syncthreads();  // every warp's sums are there
  if (t > 0) return;
  for (int w = 1; w < WARPS; w++) s = combined(s, of_warps[w]);
  maxima[row] = s.m;
  totals[row] = s.total;
  losses[row] = logf(s.total) + deserved(s.m - x[target], s.below, smoothing, V);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy_forward_02_mean(float* loss, const float* losses, int count, int R) {
  __shared__ float sums[WARPS];
  float sum = 0.0f;
  for (int i = threadIdx.x; i < R; i += THREADS) sum += losses[i];
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();  // every warp's sum is there
  if (threadIdx.x > 0) return;
  for (int w = 1; w < WARPS; w++) sum += sums[w];
  loss[0] = sum / count;
}

struct Slope {
  float m, scale, all, hit;
  __device__ float at(float x, bool is_target) const { return expf(x - m) * scale - all - (is_target ? hit : 0.0f); }
};

extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy_vjp_02_block_online(float* dx, const float* dy, const float* logits, const int* targets, const float* maxima,
                                      const float* totals, int count, float smoothing, int R, int V) {
  const int row = blockIdx.x, t = threadIdx.x, target = targets[row];
  const float share = dy[0] / count;
  const size_t first = (size_t)row * V;
  const float* x = logits + first;
  dx += first;
  if (target == IGNORED) {
    for (int j = t; j < V; j += THREADS) dx[j] = 0.0f * share;  // NaN where dy is
    return;
  }
  const Slope slope = {maxima[row], share / totals[row], smoothing / V * share, (1.0f - smoothing) * share};
  const int head = before_fours(first, V), tail = V - (V - head) % 4;
  if (t < head) dx[t] = slope.at(x[t], t == target);
  for (int j = head + 4 * t; j < tail; j += 4 * THREADS) {
    const float4 v = *reinterpret_cast<const float4*>(x + j);
    *reinterpret_cast<float4*>(dx + j) = make_float4(slope.at(v.x, j == target), slope.at(v.y, j + 1 == target),
                                                     slope.at(v.z, j + 2 == target), slope.at(v.w, j + 3 == target));
  }
  if (tail + t < V) dx[tail + t] = slope.at(x[tail + t], tail + t == target);
}
