// attention 01, three kernels: scores S = c q k^T in memory, softmax of their rows, y = P v; backward the same way.
//
// The textbook on a GPU, and the rung to measure from: T x S numbers a head are written and read by each kernel, and kept for
// the way back. A thread for each number of a product, a warp for each row of scores.
//     dv = P^T dy,  dP = dy v^T,  dS = P (dP - <dP, P>) by rows,  dq = c dS k,  dk = c dS^T q
// The first and the third are products of the same form as dk and y, so five kernels do all. Query i stands at i + S - T and sees
// the keys from `before` places before it to `after` places after it whose mask is not 0. What is hidden is skipped by all but
// the scores' product, so that a number there that is not finite spoils nothing, and a query that sees nothing gets zeros.
// q, y, dy, dq: B H heads of T x D; k, v, dk, dv: B G heads of S x D, H a multiple of G; scores, p, ds: B H heads of T x S.
// mask: bytes, with its strides by batch entry, head, query and key, 0 along axes that it does not have.

constexpr float LOWEST = -3.402823466e+38f;  // the most negative float: below it lies only -infinity
constexpr unsigned ALL = 0xffffffffu;

__device__ bool seen(const unsigned char* mask, long long mask_t, long long mask_s, int i, int j, int T, int S, int before,
                     int after) {
  const int ahead = j - (i + S - T);
  return ahead >= -before && ahead <= after && mask[i * mask_t + j * mask_s];
}

// s = scale q k^T: a thread for each of the B H T S numbers.
extern "C" __global__ void attention_01_scores(float* s, const float* q, const float* k, int B, int H, int G, int T, int S, int D,
                                               float scale) {
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (size_t)B * H * T * S) return;
  const int j = at % S, head = at / S / T;
  q += at / S * D;
  k += ((size_t)head / H * G + head % H / (H / G)) * S * D + (size_t)j * D;
  float sum = 0.0f;
  for (int d = 0; d < D; d++) sum += q[d] * k[d];
  s[at] = sum * scale;
}

// p = softmax of each row of s, in its place: a warp for each row.
extern "C" __global__ void attention_forward_01_softmax(float* s, const unsigned char* mask, long long mask_b, long long mask_h,
                                                        long long mask_t, long long mask_s, int B, int H, int T, int S,
                                                        int before, int after) {
  const size_t row = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (row >= (size_t)B * H * T) return;  // the whole warp leaves
  const int lane = threadIdx.x % 32, i = row % T, head = row / T;
  s += row * S;
  mask += head / H * mask_b + head % H * mask_h;
  float m = LOWEST, total = 0.0f;
  for (int j = lane; j < S; j += 32)
    if (seen(mask, mask_t, mask_s, i, j, T, S, before, after)) m = fmaxf(m, s[j]);
  for (int away = 16; away > 0; away /= 2) m = fmaxf(m, __shfl_xor_sync(ALL, m, away));
  for (int j = lane; j < S; j += 32) {
    s[j] = seen(mask, mask_t, mask_s, i, j, T, S, before, after) ? expf(s[j] - m) : 0.0f;
    total += s[j];
  }
  for (int away = 16; away > 0; away /= 2) total += __shfl_xor_sync(ALL, total, away);
  for (int j = lane; j < S; j += 32) s[j] /= total;
}

// ds = p (dp - <dp, p>) for each row, in dp's place: a warp for each row.
extern "C" __global__ void attention_vjp_01_softmax(float* dp, const float* p, const unsigned char* mask, long long mask_b,
                                                    long long mask_h, long long mask_t, long long mask_s, int B, int H, int T,
                                                    int S, int before, int after) {
  const size_t row = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  if (row >= (size_t)B * H * T) return;
  const int lane = threadIdx.x % 32, i = row % T, head = row / T;
  dp += row * S;
  p += row * S;
  mask += head / H * mask_b + head % H * mask_h;
  float inner = 0.0f;
  for (int j = lane; j < S; j += 32)
    if (seen(mask, mask_t, mask_s, i, j, T, S, before, after)) inner += dp[j] * p[j];
  for (int away = 16; away > 0; away /= 2) inner += __shfl_xor_sync(ALL, inner, away);
  for (int j = lane; j < S; j += 32) dp[j] = p[j] * (dp[j] - inner);
}

// y = scale p v: a thread for each number of y. With ds and k in the place of p and v it is dq.
extern "C" __global__ void attention_01_sum_over_keys(float* y, const float* p, const float* v, const unsigned char* mask,
                                                      long long mask_b, long long mask_h, long long mask_t, long long mask_s,
                                                      int B, int H, int G, int T, int S, int D, int before, int after,
                                                      float scale) {
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (size_t)B * H * T * D) return;
  const int d = at % D, i = at / D % T, head = at / D / T;
  p += at / D * S;
  v += ((size_t)head / H * G + head % H / (H / G)) * S * D + d;
  mask += head / H * mask_b + head % H * mask_h;
  float sum = 0.0f;
  for (int j = 0; j < S; j++)
    if (seen(mask, mask_t, mask_s, i, j, T, S, before, after)) sum += p[j] * v[(size_t)j * D];
  y[at] = sum * scale;
}

// dv = scale p^T dy, summed over the query heads of the group: a thread for each number of dv. With ds and q it is dk.
extern "C" __global__ void attention_01_sum_over_queries(float* dv, const float* p, const float* dy, const unsigned char* mask,
                                                         long long mask_b, long long mask_h, long long mask_t, long long mask_s,
                                                         int B, int H, int G, int T, int S, int D, int before, int after,
                                                         float scale) {
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (size_t)B * G * S * D) return;
  const int d = at % D, j = at / D % S, key_head = at / D / S, b = key_head / G;
  float sum = 0.0f;
  for (int h = key_head % G * (H / G); h < (key_head % G + 1) * (H / G); h++) {
    const unsigned char* of_head = mask + b * mask_b + h * mask_h;
    for (int i = 0; i < T; i++) {
      const size_t row = ((size_t)b * H + h) * T + i;
      if (seen(of_head, mask_t, mask_s, i, j, T, S, before, after)) sum += p[row * S + j] * dy[row * D + d];
    }
  }
  dv[at] = sum * scale;
}
