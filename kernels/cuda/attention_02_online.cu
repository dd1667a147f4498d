// attention 02, online: tiles of queries by keys, softmax as it goes; nothing of size T x S is ever in global memory.
//
// A block owns a tile of queries and walks over tiles of 32 keys (Dao et al. 2022, FlashAttention, algorithm 1). Of each row it
// keeps m, the largest score so far, total = sum e^(s - m), and sums = sum e^(s - m) v. A larger m makes what was summed before
// smaller by e^(old m - new m). At the end y = sums / total, and lse = m + log total is kept for the way back:
//     p = e^(s - lse),  dv = p^T dy,  ds = p (dy v^T - <dy, y>),  dq = c ds k,  dk = c ds^T q
// Three kernels go back. One computes <dy, y> for each query. One owns a tile of keys and walks over the queries of its group's
// heads: dk and dv. One owns a tile of queries and walks over keys: dq. So scores are computed three times in all, every sum has
// one owner and one order, and nothing is added by atomics.
//
// 128 threads, 16 down and 8 across. A thread has ROWS owned rows, and of the walked tile every 8th row for the scores, columns
// 4 across + 32 n for the sums. The 8 threads of a row lie in one warp: shuffles combine them, and the weights that they exchange
// through shared memory need no more than a __syncwarp. Tiles that order or window hide are never touched.
//
// Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it whose mask is not 0. A
// query that sees nothing gets y = 0 and lse = infinity, so that p = 0 on the way back. A hidden weight is a zero that is
// multiplied all the same, so a number that is not finite spoils the tile where it is hidden; but keys that a mask hides from all
// queries of a head (padding) are loaded as zeros.
// q, y, dy, dq: B H heads of T x D; k, v, dk, dv: B G heads of S x D, H a multiple of G; lse, inner: B H x T. D up to HEAD_DIM.
// mask: bytes, with its strides by batch entry, head, query and key, 0 along axes that it does not have.

#include "attention.cuh"

constexpr int THREADS = 128, ACROSS = 8, DOWN = THREADS / ACROSS;
constexpr int WALKED = 32, EACH = WALKED / ACROSS;  // rows of a walked tile, and of them for each thread
constexpr int PAD = 4;                              // floats after each row of a tile: 8 neighbouring rows have other banks
constexpr int WEIGHTS = WALKED + 2;                 // from one row of weights to the next

// `height` rows of D numbers from row `first` on to shared memory; zeros beyond row `last`, beyond D, and for rows whose byte in
// `shown` is 0.
template <int HEAD_DIM>
__device__ void load_tile(float* tile, const float* rows, int first, int last, int height, int D,
                          const unsigned char* shown = nullptr, long long stride = 0) {
  for (int n = threadIdx.x; n < height * HEAD_DIM; n += THREADS) {
    const int row = first + n / HEAD_DIM, d = n % HEAD_DIM;
    const bool there = row < last && d < D && (!shown || shown[row * stride]);
    tile[n / HEAD_DIM * (HEAD_DIM + PAD) + d] = there ? rows[(size_t)row * D + d] : 0.0f;
  }
}

// s = the thread's rows of `own` times its rows of `walked`. Forward and back add in the same order: where scores are as large as
// 1 / eps, e^(s - lse) would show another.
template <int HEAD_DIM, int ROWS>
__device__ void dots(float (&s)[ROWS][EACH], const float* own, const float* walked, int D) {
  const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
  for (int r = 0; r < ROWS; r++)
    for (int c = 0; c < EACH; c++) s[r][c] = 0.0f;
#pragma unroll 1  // more at once would spill registers
  for (int d = 0; d < D; d += 4) {
    float4 a[ROWS], b[EACH];
    for (int r = 0; r < ROWS; r++) a[r] = *reinterpret_cast<const float4*>(own + (down * ROWS + r) * (HEAD_DIM + PAD) + d);
    for (int c = 0; c < EACH; c++) b[c] = *reinterpret_cast<const float4*>(walked + (across + ACROSS * c) * (HEAD_DIM + PAD) + d);
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < EACH; c++) {
        s[r][c] += a[r].x * b[c].x;
        s[r][c] += a[r].y * b[c].y;
        s[r][c] += a[r].z * b[c].z;
        s[r][c] += a[r].w * b[c].w;
      }
  }
}

// sums += weights times the walked tile, for the thread's rows and columns.
template <int HEAD_DIM, int ROWS>
__device__ void add_product(float4 (&sums)[ROWS][HEAD_DIM / 32], const float* weights, const float* walked) {
  const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
#pragma unroll 8  // all 32 at once would spill registers
  for (int j = 0; j < WALKED; j++) {
    float weight[ROWS];
    for (int r = 0; r < ROWS; r++) weight[r] = weights[(down * ROWS + r) * WEIGHTS + j];
    for (int n = 0; n < HEAD_DIM / 32; n++) {
      const float4 b = *reinterpret_cast<const float4*>(walked + j * (HEAD_DIM + PAD) + 32 * n + 4 * across);
      for (int r = 0; r < ROWS; r++) {
        sums[r][n].x += weight[r] * b.x;
        sums[r][n].y += weight[r] * b.y;
        sums[r][n].z += weight[r] * b.z;
        sums[r][n].w += weight[r] * b.w;
      }
    }
  }
}

// The thread's columns of one row, times a factor.
template <int COLUMNS>
__device__ void store_row(float* row, const float4 (&sums)[COLUMNS], float factor, int D) {
  for (int n = 0; n < COLUMNS; n++) {
    const int d = 32 * n + 4 * (threadIdx.x % ACROSS);
    if (d < D) row[d] = sums[n].x * factor;
    if (d + 1 < D) row[d + 1] = sums[n].y * factor;
    if (d + 2 < D) row[d + 2] = sums[n].z * factor;
    if (d + 3 < D) row[d + 3] = sums[n].w * factor;
  }
}

template <int HEAD_DIM, int ROWS>
__device__ void forward(float* y, float* lse, const float* q, const float* k, const float* v, const Problem& of, float* memory) {
  constexpr int QUERIES = DOWN * ROWS, STRIDE = HEAD_DIM + PAD;
  float *tile_q = memory, *tile_k = tile_q + QUERIES * STRIDE, *tile_v = tile_k + WALKED * STRIDE;
  float* weights = tile_v + WALKED * STRIDE;
  const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
  const int T = of.T, S = of.S, D = of.D, tiles = (T + QUERIES - 1) / QUERIES;
  const int head = blockIdx.x / tiles, first = blockIdx.x % tiles * QUERIES, last = min(T, first + QUERIES);
  const unsigned char* mask = of.mask_of(head);
  const unsigned char* shown = of.mask_t == 0 ? mask : nullptr;
  k += (size_t)of.key_head(head) * S * D;
  v += (size_t)of.key_head(head) * S * D;
  float m[ROWS], total[ROWS] = {};  // total: of the thread's own keys
  float4 sums[ROWS][HEAD_DIM / 32] = {};
  for (int r = 0; r < ROWS; r++) m[r] = LOWEST;
  load_tile<HEAD_DIM>(tile_q, q + (size_t)head * T * D, first, last, QUERIES, D);

  const int end = min(S, last + S - T + of.after);
  for (int j0 = max(0, first + S - T - of.before); j0 < end; j0 += WALKED) {
    __syncthreads();  // nobody reads the tile before it any more
    load_tile<HEAD_DIM>(tile_k, k, j0, S, WALKED, D, shown, of.mask_s);
    load_tile<HEAD_DIM>(tile_v, v, j0, S, WALKED, D, shown, of.mask_s);
    __syncthreads();  // the tile is there
    float s[ROWS][EACH];
    dots<HEAD_DIM, ROWS>(s, tile_q, tile_k, D);
    for (int r = 0; r < ROWS; r++) {
      float larger = m[r];
      for (int c = 0; c < EACH; c++) {
        const bool seen = of.seen(mask, first + down * ROWS + r, j0 + across + ACROSS * c);
        s[r][c] = seen ? s[r][c] * of.scale : -infinity();
        larger = fmaxf(larger, s[r][c]);
      }
      for (int away = ACROSS / 2; away > 0; away /= 2) larger = fmaxf(larger, __shfl_xor_sync(ALL, larger, away));
      const float shrink = expf(m[r] - larger);
      m[r] = larger;
      total[r] *= shrink;
      for (int c = 0; c < EACH; c++) {
        const float p = expf(s[r][c] - larger);
        total[r] += p;
        weights[(down * ROWS + r) * WEIGHTS + across + ACROSS * c] = p;
      }
      for (int n = 0; n < HEAD_DIM / 32; n++) {
        sums[r][n].x *= shrink;
        sums[r][n].y *= shrink;
        sums[r][n].z *= shrink;
        sums[r][n].w *= shrink;
      }
    }
    __syncwarp();  // the weights of the warp's rows are there
    add_product<HEAD_DIM, ROWS>(sums, weights, tile_v);
  }

  for (int r = 0; r < ROWS; r++) {
    for (int away = ACROSS / 2; away > 0; away /= 2) total[r] += __shfl_xor_sync(ALL, total[r], away);
    const int i = first + down * ROWS + r;
    if (i >= T) continue;
    const size_t row = (size_t)head * T + i;
    const bool nothing = total[r] == 0.0f;
    store_row(y + row * D, sums[r], nothing ? 0.0f : 1.0f / total[r], D);
    if (across == 0) lse[row] = nothing ? infinity() : m[r] + logf(total[r]);
  }
}

template <int HEAD_DIM, int ROWS>
__device__ void gradient_of_keys(float* dk, float* dv, const float* dy, const float* q, const float* k, const float* v,
                                 const float* lse, const float* inner, const Problem& of, float* memory) {
  constexpr int KEYS = DOWN * ROWS, STRIDE = HEAD_DIM + PAD;
  float *tile_k = memory, *tile_v = tile_k + KEYS * STRIDE, *tile_q = tile_v + KEYS * STRIDE, *tile_dy = tile_q + WALKED * STRIDE;
  float *weights_p = tile_dy + WALKED * STRIDE, *weights_ds = weights_p + KEYS * WEIGHTS;
  const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
  const int T = of.T, S = of.S, D = of.D, tiles = (S + KEYS - 1) / KEYS, share = of.H / of.G;
  const int key_head = blockIdx.x / tiles, first = blockIdx.x % tiles * KEYS, last = min(S, first + KEYS);
  float4 sum_k[ROWS][HEAD_DIM / 32] = {}, sum_v[ROWS][HEAD_DIM / 32] = {};
  load_tile<HEAD_DIM>(tile_k, k + (size_t)key_head * S * D, first, last, KEYS, D);
  load_tile<HEAD_DIM>(tile_v, v + (size_t)key_head * S * D, first, last, KEYS, D);

  for (int head = key_head * share; head < (key_head + 1) * share; head++) {
    const unsigned char* mask = of.mask_of(head);
    const int end = min(T, last - (S - T) + of.before);
    for (int i0 = max(0, first - (S - T) - of.after); i0 < end; i0 += WALKED) {
      __syncthreads();  // nobody reads the tile before it any more
      load_tile<HEAD_DIM>(tile_q, q + (size_t)head * T * D, i0, T, WALKED, D);
      load_tile<HEAD_DIM>(tile_dy, dy + (size_t)head * T * D, i0, T, WALKED, D);
      __syncthreads();  // the tile is there
      float s[ROWS][EACH], dp[ROWS][EACH];
      dots<HEAD_DIM, ROWS>(s, tile_k, tile_q, D);
      dots<HEAD_DIM, ROWS>(dp, tile_v, tile_dy, D);
      for (int c = 0; c < EACH; c++) {
        const int i = i0 + across + ACROSS * c;
        const float lse_i = i < T ? lse[(size_t)head * T + i] : 0.0f, inner_i = i < T ? inner[(size_t)head * T + i] : 0.0f;
        for (int r = 0; r < ROWS; r++) {
          const bool seen = of.seen(mask, i, first + down * ROWS + r);
          const float p = seen ? expf(s[r][c] * of.scale - lse_i) : 0.0f;
          const int at = (down * ROWS + r) * WEIGHTS + across + ACROSS * c;
          weights_p[at] = p;
          weights_ds[at] = seen ? p * (dp[r][c] - inner_i) : 0.0f;
        }
      }
      __syncwarp();  // the weights of the warp's rows are there
      add_product<HEAD_DIM, ROWS>(sum_v, weights_p, tile_dy);
      add_product<HEAD_DIM, ROWS>(sum_k, weights_ds, tile_q);
    }
  }

  for (int r = 0; r < ROWS; r++) {
    const int j = first + down * ROWS + r;
    if (j >= S) continue;
    store_row(dk + ((size_t)key_head * S + j) * D, sum_k[r], of.scale, D);
    store_row(dv + ((size_t)key_head * S + j) * D, sum_v[r], 1.0f, D);
  }
}

template <int HEAD_DIM, int ROWS>
__device__ void gradient_of_queries(float* dq, const float* dy, const float* q, const float* k, const float* v, const float* lse,
                                    const float* inner, const Problem& of, float* memory) {
  constexpr int QUERIES = DOWN * ROWS, STRIDE = HEAD_DIM + PAD;
  float *tile_q = memory, *tile_dy = tile_q + QUERIES * STRIDE, *tile_k = tile_dy + QUERIES * STRIDE;
  float *tile_v = tile_k + WALKED * STRIDE, *weights = tile_v + WALKED * STRIDE;
  const int down = threadIdx.x / ACROSS, across = threadIdx.x % ACROSS;
  const int T = of.T, S = of.S, D = of.D, tiles = (T + QUERIES - 1) / QUERIES;
  const int head = blockIdx.x / tiles, first = blockIdx.x % tiles * QUERIES, last = min(T, first + QUERIES);
  const unsigned char* mask = of.mask_of(head);
  const unsigned char* shown = of.mask_t == 0 ? mask : nullptr;
  k += (size_t)of.key_head(head) * S * D;
  v += (size_t)of.key_head(head) * S * D;
  float4 sums[ROWS][HEAD_DIM / 32] = {};
  load_tile<HEAD_DIM>(tile_q, q + (size_t)head * T * D, first, last, QUERIES, D);
  load_tile<HEAD_DIM>(tile_dy, dy + (size_t)head * T * D, first, last, QUERIES, D);

  const int end = min(S, last + S - T + of.after);
  for (int j0 = max(0, first + S - T - of.before); j0 < end; j0 += WALKED) {
    __syncthreads();  // nobody reads the tile before it any more
    load_tile<HEAD_DIM>(tile_k, k, j0, S, WALKED, D, shown, of.mask_s);
    load_tile<HEAD_DIM>(tile_v, v, j0, S, WALKED, D, shown, of.mask_s);
    __syncthreads();  // the tile is there
    float s[ROWS][EACH], dp[ROWS][EACH];
    dots<HEAD_DIM, ROWS>(s, tile_q, tile_k, D);
    dots<HEAD_DIM, ROWS>(dp, tile_dy, tile_v, D);
    for (int r = 0; r < ROWS; r++) {
      const int i = first + down * ROWS + r;
      const float lse_i = i < T ? lse[(size_t)head * T + i] : 0.0f, inner_i = i < T ? inner[(size_t)head * T + i] : 0.0f;
      for (int c = 0; c < EACH; c++) {
        const bool seen = of.seen(mask, i, j0 + across + ACROSS * c);
        const float ds = seen ? expf(s[r][c] * of.scale - lse_i) * (dp[r][c] - inner_i) : 0.0f;
        weights[(down * ROWS + r) * WEIGHTS + across + ACROSS * c] = ds;
      }
    }
    __syncwarp();  // the weights of the warp's rows are there
    add_product<HEAD_DIM, ROWS>(sums, weights, tile_k);
  }

  for (int r = 0; r < ROWS; r++) {
    const int i = first + down * ROWS + r;
    if (i < T) store_row(dq + ((size_t)head * T + i) * D, sums[r], of.scale, D);
  }
}

// inner = <dy, y> of each of R rows of D numbers: a warp for each row.
extern "C" __global__ void attention_vjp_02_inner(float* inner, const float* dy, const float* y, int R, int D) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  float sum = 0.0f;
  for (int d = lane; d < D; d += 32) sum += dy[(size_t)row * D + d] * y[(size_t)row * D + d];
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (lane == 0) inner[row] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_02_online_64(float* y, float* lse, const float* q, const float* k, const float* v,
                                   const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                   long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  forward<64, 4>(y, lse, q, k, v,
                 {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_02_online_128(float* y, float* lse, const float* q, const float* k, const float* v,
                                    const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                    long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  forward<128, 4>(y, lse, q, k, v,
                  {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_02_online_256(float* y, float* lse, const float* q, const float* k, const float* v,
                                    const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                    long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  forward<256, 2>(y, lse, q, k, v,
                  {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_02_online_keys_64(float* dk, float* dv, const float* dy, const float* q, const float* k, const float* v,
                                    const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                    long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S, int D,
                                    int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  gradient_of_keys<64, 4>(dk, dv, dy, q, k, v, lse, inner,
                          {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_02_online_keys_128(float* dk, float* dv, const float* dy, const float* q, const float* k, const float* v,
                                     const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                     long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S, int D,
                                     int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  gradient_of_keys<128, 2>(dk, dv, dy, q, k, v, lse, inner,
                           {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_02_online_keys_256(float* dk, float* dv, const float* dy, const float* q, const float* k, const float* v,
                                     const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                     long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S, int D,
                                     int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  gradient_of_keys<256, 1>(dk, dv, dy, q, k, v, lse, inner,
                           {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_02_online_queries_64(float* dq, const float* dy, const float* q, const float* k, const float* v,
                                       const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                       long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S, int D,
                                       int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  gradient_of_queries<64, 4>(dq, dy, q, k, v, lse, inner,
                             {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_02_online_queries_128(float* dq, const float* dy, const float* q, const float* k, const float* v,
                                        const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                        long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S, int D,
                                        int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  gradient_of_queries<128, 2>(dq, dy, q, k, v, lse, inner,
                              {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_02_online_queries_256(float* dq, const float* dy, const float* q, const float* k, const float* v,
                                        const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                        long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S, int D,
                                        int before, int after, float scale) {
  extern __shared__ __align__(16) float memory[];
  gradient_of_queries<256, 1>(dq, dy, q, k, v, lse, inner,
                              {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}
