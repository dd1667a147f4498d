// attention 03, mma: tensor cores for all products; weights stay in registers between the two, tiles come by cp.async.
//
// The walk is rung 02's; who holds what is new (Dao 2023, FlashAttention-2). A block of 4 warps owns 64 rows, each warp 16 of them
// with all of their scores, so that warps exchange nothing: a row's maximum and sum are combined by the 4 lanes that hold it.
// mma.sync leaves a score in the very lane that must bring it as a factor of the next product, so scores become weights, are
// rounded to 16 bits and go on as they lie. Which lane holds what of a tile is written in on_cpu/tensor_cores.hpp.
// The next 32 walked rows are copied by cp.async into the other of two stages while these are multiplied. Where D is no multiple
// of 16 bytes, rows do not begin at multiples of 16 bytes, and numbers are copied one by one.
//
// Back: one kernel owns keys and walks over queries, with the scores transposed, S^T = k q^T, so that P^T and dS^T are what lies in
// registers; one owns queries. For a head_dim of 256, sums for dk and dv would be 256 registers: blockIdx.y says which 128 columns.
//
// bfloat16 and float16 with float32 sums; weights and ds are rounded once more. lse and inner = <dy, y> are float32.
// Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it whose mask is not 0. A
// query that sees nothing gets y = 0 and lse = infinity, so that p = 0 on the way back. A hidden weight is a zero that is
// multiplied all the same, so a number that is not finite spoils the tile where it is hidden; but keys that a mask hides from all
// queries of a head (padding) are loaded as zeros.
// q, y, dy, dq: B H heads of T x D; k, v, dk, dv: B G heads of S x D, H a multiple of G; lse, inner: B H x T. D up to HEAD_DIM.
// mask: bytes, with its strides by batch entry, head, query and key, 0 along axes that it does not have.

#include "attention_mma.cuh"

template <int HEAD_DIM, class T>
__device__ void forward(T* y, float* lse, const T* q, const T* k, const T* v, const Problem& of, unsigned char* memory) {
  constexpr int STRIDE = HEAD_DIM + PAD, STAGE = 2 * WALKED * STRIDE;
  T *tile_q = reinterpret_cast<T*>(memory), *stages = tile_q + OWNED * STRIDE;
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
  const int S = of.S, D = of.D, blocks = (of.T + OWNED - 1) / OWNED;
  const int head = blockIdx.x / blocks, first = blockIdx.x % blocks * OWNED, last = min(of.T, first + OWNED);
  const unsigned char* mask = of.mask_of(head);
  const unsigned char* shown = of.mask_t == 0 ? mask : nullptr;
  k += (size_t)of.key_head(head) * S * D;
  v += (size_t)of.key_head(head) * S * D;
  float m[2] = {LOWEST, LOWEST}, total[2] = {};  // of rows `group` and `group + 8`; total: of the thread's own keys
  float sums[HEAD_DIM / 8][4] = {};
  load_tile<HEAD_DIM>(tile_q, q + (size_t)head * of.T * D, first, last, OWNED, D);

  const int start = max(0, first + S - of.T - of.before), end = min(S, last + S - of.T + of.after);
  const int steps = (end - start + WALKED - 1) / WALKED;
  for (int t = -1; t < steps; t++) {
    if (t + 1 < steps) {
      T* next = stages + (t + 1) % STAGES * STAGE;
      load_tile<HEAD_DIM>(next, k, start + (t + 1) * WALKED, S, WALKED, D, shown, of.mask_s);
      load_tile<HEAD_DIM>(next + WALKED * STRIDE, v, start + (t + 1) * WALKED, S, WALKED, D, shown, of.mask_s);
    }
    cp_async_commit();
    if (t < 0) continue;
    cp_async_wait<1>();
    __syncthreads();  // everybody's copies of tile t, and of the queries, are there
    const T* tile_k = stages + t % STAGES * STAGE;
    float s[TILES][4];
    dots<STRIDE>(s, tile_q + 16 * warp * STRIDE, tile_k, D);
    float larger[2] = {m[0], m[1]};
    for (int n = 0; n < TILES; n++)
      for (int l = 0; l < 4; l++) {
        const int i = first + 16 * warp + group + l / 2 * 8, j = start + t * WALKED + 8 * n + 2 * member + l % 2;
        s[n][l] = of.seen(mask, i, j) ? s[n][l] * of.scale : -infinity();
        larger[l / 2] = fmaxf(larger[l / 2], s[n][l]);
      }
    for (int r = 0; r < 2; r++) {
      for (int away = 2; away > 0; away /= 2) larger[r] = fmaxf(larger[r], __shfl_xor_sync(ALL, larger[r], away));
      const float shrink = expf(m[r] - larger[r]);
      m[r] = larger[r];
      total[r] *= shrink;
      for (int n = 0; n < HEAD_DIM / 8; n++) {
        sums[n][2 * r] *= shrink;
        sums[n][2 * r + 1] *= shrink;
      }
    }
    for (int n = 0; n < TILES; n++)
      for (int l = 0; l < 4; l++) {
        s[n][l] = expf(s[n][l] - m[l / 2]);
        total[l / 2] += s[n][l];
      }
    add_product<STRIDE>(sums, s, tile_k + WALKED * STRIDE, D);
    __syncthreads();  // nobody reads tile t any more: its stage may be filled
  }

  for (int r = 0; r < 2; r++) {
    for (int away = 2; away > 0; away /= 2) total[r] += __shfl_xor_sync(ALL, total[r], away);
    const int i = first + 16 * warp + group + 8 * r;
    if (i >= of.T) continue;
    const size_t row = (size_t)head * of.T + i;
    const bool nothing = total[r] == 0.0f;
    store_row(y + row * D, sums, r, nothing ? 0.0f : 1.0f / total[r], D);
    if (member == 0) lse[row] = nothing ? infinity() : m[r] + logf(total[r]);
  }
}

template <int HEAD_DIM, class T>
__device__ void gradient_of_keys(T* dk, T* dv, const T* dy, const T* q, const T* k, const T* v, const float* lse,
                                 const float* inner, const Problem& of, unsigned char* memory) {
  constexpr int STRIDE = HEAD_DIM + PAD, STAGE = 2 * WALKED * STRIDE, PART = HEAD_DIM < 128 ? HEAD_DIM : 128;
  T *tile_k = reinterpret_cast<T*>(memory), *tile_v = tile_k + OWNED * STRIDE, *stages = tile_v + OWNED * STRIDE;
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
  const int S = of.S, D = of.D, blocks = (S + OWNED - 1) / OWNED, share = of.H / of.G, column0 = blockIdx.y * PART;
  const int key_head = blockIdx.x / blocks, first = blockIdx.x % blocks * OWNED, last = min(S, first + OWNED);
  float sum_k[PART / 8][4] = {}, sum_v[PART / 8][4] = {};
  load_tile<HEAD_DIM>(tile_k, k + (size_t)key_head * S * D, first, last, OWNED, D);
  load_tile<HEAD_DIM>(tile_v, v + (size_t)key_head * S * D, first, last, OWNED, D);

  const int start = max(0, first - (S - of.T) - of.after), end = min(of.T, last - (S - of.T) + of.before);
  const int steps = max(0, (end - start + WALKED - 1) / WALKED);  // of each head
  for (int t = -1; t < share * steps; t++) {
    if (t + 1 < share * steps) {
      T* next = stages + (t + 1) % STAGES * STAGE;
      const size_t rows = (size_t)(key_head * share + (t + 1) / steps) * of.T * D;
      const int i0 = start + (t + 1) % steps * WALKED;
      load_tile<HEAD_DIM>(next, q + rows, i0, of.T, WALKED, D);
      load_tile<HEAD_DIM>(next + WALKED * STRIDE, dy + rows, i0, of.T, WALKED, D);
    }
    cp_async_commit();
    if (t < 0) continue;
    cp_async_wait<1>();
    __syncthreads();  // everybody's copies of tile t, and of the keys and values, are there
    const T *tile_q = stages + t % STAGES * STAGE, *tile_dy = tile_q + WALKED * STRIDE;
    const int head = key_head * share + t / steps;
    const unsigned char* mask = of.mask_of(head);
    float p[TILES][4], ds[TILES][4];
    dots<STRIDE>(p, tile_k + 16 * warp * STRIDE, tile_q, D);
    dots<STRIDE>(ds, tile_v + 16 * warp * STRIDE, tile_dy, D);
    for (int n = 0; n < TILES; n++)
      for (int l = 0; l < 4; l++) {
        const int i = start + t % steps * WALKED + 8 * n + 2 * member + l % 2, j = first + 16 * warp + group + l / 2 * 8;
        const bool seen = of.seen(mask, i, j);
        p[n][l] = seen ? expf(p[n][l] * of.scale - lse[(size_t)head * of.T + i]) : 0.0f;
        ds[n][l] = seen ? p[n][l] * (ds[n][l] - inner[(size_t)head * of.T + i]) : 0.0f;
      }
    add_product<STRIDE>(sum_v, p, tile_dy + column0, D - column0);
    add_product<STRIDE>(sum_k, ds, tile_q + column0, D - column0);
    __syncthreads();  // nobody reads tile t any more: its stage may be filled
  }

  for (int r = 0; r < 2; r++) {
    const int j = first + 16 * warp + group + 8 * r;
    if (j >= S) continue;
    const size_t at = ((size_t)key_head * S + j) * D + column0;
    store_row(dk + at, sum_k, r, of.scale, D - column0);
    store_row(dv + at, sum_v, r, 1.0f, D - column0);
  }
}

template <int HEAD_DIM, class T>
__device__ void gradient_of_queries(T* dq, const T* dy, const T* q, const T* k, const T* v, const float* lse, const float* inner,
                                    const Problem& of, unsigned char* memory) {
  constexpr int STRIDE = HEAD_DIM + PAD, STAGE = 2 * WALKED * STRIDE;
  T *tile_q = reinterpret_cast<T*>(memory), *tile_dy = tile_q + OWNED * STRIDE, *stages = tile_dy + OWNED * STRIDE;
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
  const int S = of.S, D = of.D, blocks = (of.T + OWNED - 1) / OWNED;
  const int head = blockIdx.x / blocks, first = blockIdx.x % blocks * OWNED, last = min(of.T, first + OWNED);
  const unsigned char* mask = of.mask_of(head);
  const unsigned char* shown = of.mask_t == 0 ? mask : nullptr;
  k += (size_t)of.key_head(head) * S * D;
  v += (size_t)of.key_head(head) * S * D;
  float sums[HEAD_DIM / 8][4] = {};
  float lse_of[2], inner_of[2];
  for (int r = 0; r < 2; r++) {
    const int i = first + 16 * warp + group + 8 * r;
    lse_of[r] = i < of.T ? lse[(size_t)head * of.T + i] : 0.0f;
    inner_of[r] = i < of.T ? inner[(size_t)head * of.T + i] : 0.0f;
  }
  load_tile<HEAD_DIM>(tile_q, q + (size_t)head * of.T * D, first, last, OWNED, D);
  load_tile<HEAD_DIM>(tile_dy, dy + (size_t)head * of.T * D, first, last, OWNED, D);

  const int start = max(0, first + S - of.T - of.before), end = min(S, last + S - of.T + of.after);
  const int steps = (end - start + WALKED - 1) / WALKED;
  for (int t = -1; t < steps; t++) {
    if (t + 1 < steps) {
      T* next = stages + (t + 1) % STAGES * STAGE;
      load_tile<HEAD_DIM>(next, k, start + (t + 1) * WALKED, S, WALKED, D, shown, of.mask_s);
      load_tile<HEAD_DIM>(next + WALKED * STRIDE, v, start + (t + 1) * WALKED, S, WALKED, D, shown, of.mask_s);
    }
    cp_async_commit();
    if (t < 0) continue;
    cp_async_wait<1>();
    __syncthreads();  // everybody's copies of tile t, and of q and dy, are there
    const T *tile_k = stages + t % STAGES * STAGE, *tile_v = tile_k + WALKED * STRIDE;
    float s[TILES][4], ds[TILES][4];
    dots<STRIDE>(s, tile_q + 16 * warp * STRIDE, tile_k, D);
    dots<STRIDE>(ds, tile_dy + 16 * warp * STRIDE, tile_v, D);
    for (int n = 0; n < TILES; n++)
      for (int l = 0; l < 4; l++) {
        const int i = first + 16 * warp + group + l / 2 * 8, j = start + t * WALKED + 8 * n + 2 * member + l % 2;
        const bool seen = of.seen(mask, i, j);
        ds[n][l] = seen ? expf(s[n][l] * of.scale - lse_of[l / 2]) * (ds[n][l] - inner_of[l / 2]) : 0.0f;
      }
    add_product<STRIDE>(sums, ds, tile_k, D);
    __syncthreads();  // nobody reads tile t any more: its stage may be filled
  }

  for (int r = 0; r < 2; r++) {
    const int i = first + 16 * warp + group + 8 * r;
    if (i < of.T) store_row(dq + ((size_t)head * of.T + i) * D, sums, r, of.scale, D);
  }
}

// inner = <dy, y> of each of R rows of D numbers: a warp for each row.
template <class T>
__device__ void inner_products(float* inner, const T* dy, const T* y, int R, int D) {
  const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= R) return;  // the whole warp leaves
  float sum = 0.0f;
  for (int d = lane; d < D; d += 32) sum += Type<T>::number(dy[(size_t)row * D + d]) * Type<T>::number(y[(size_t)row * D + d]);
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (lane == 0) inner[row] = sum;
}

extern "C" __global__ void attention_vjp_03_inner_bfloat16(float* inner, const __nv_bfloat16* dy, const __nv_bfloat16* y,
                                                           int R, int D) {
  inner_products(inner, dy, y, R, D);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_03_mma_bfloat16_64(__nv_bfloat16* y, float* lse, const __nv_bfloat16* q, const __nv_bfloat16* k,
                                         const __nv_bfloat16* v, const unsigned char* mask, long long mask_b, long long mask_h,
                                         long long mask_t, long long mask_s, int H, int G, int T, int S, int D, int before,
                                         int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward<64>(y, lse, q, k, v,
              {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_03_mma_bfloat16_128(__nv_bfloat16* y, float* lse, const __nv_bfloat16* q, const __nv_bfloat16* k,
                                          const __nv_bfloat16* v, const unsigned char* mask, long long mask_b, long long mask_h,
                                          long long mask_t, long long mask_s, int H, int G, int T, int S, int D, int before,
                                          int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward<128>(y, lse, q, k, v,
               {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_03_mma_bfloat16_256(__nv_bfloat16* y, float* lse, const __nv_bfloat16* q, const __nv_bfloat16* k,
                                          const __nv_bfloat16* v, const unsigned char* mask, long long mask_b, long long mask_h,
                                          long long mask_t, long long mask_s, int H, int G, int T, int S, int D, int before,
                                          int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward<256>(y, lse, q, k, v,
               {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_keys_bfloat16_64(__nv_bfloat16* dk, __nv_bfloat16* dv, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                                          const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* inner,
                                          const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                          long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_keys<64>(dk, dv, dy, q, k, v, lse, inner,
                       {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_keys_bfloat16_128(__nv_bfloat16* dk, __nv_bfloat16* dv, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                                           const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* inner,
                                           const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                           long long mask_s, int H, int G, int T, int S, int D, int before, int after,
                                           float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_keys<128>(dk, dv, dy, q, k, v, lse, inner,
                        {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_keys_bfloat16_256(__nv_bfloat16* dk, __nv_bfloat16* dv, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                                           const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* inner,
                                           const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                           long long mask_s, int H, int G, int T, int S, int D, int before, int after,
                                           float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_keys<256>(dk, dv, dy, q, k, v, lse, inner,
                        {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_queries_bfloat16_64(__nv_bfloat16* dq, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                                             const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse, const float* inner,
                                             const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                             long long mask_s, int H, int G, int T, int S, int D, int before, int after,
                                             float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_queries<64>(dq, dy, q, k, v, lse, inner,
                          {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_queries_bfloat16_128(__nv_bfloat16* dq, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                                              const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse,
                                              const float* inner, const unsigned char* mask, long long mask_b, long long mask_h,
                                              long long mask_t, long long mask_s, int H, int G, int T, int S, int D, int before,
                                              int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_queries<128>(dq, dy, q, k, v, lse, inner,
                           {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_queries_bfloat16_256(__nv_bfloat16* dq, const __nv_bfloat16* dy, const __nv_bfloat16* q,
                                              const __nv_bfloat16* k, const __nv_bfloat16* v, const float* lse,
                                              const float* inner, const unsigned char* mask, long long mask_b, long long mask_h,
                                              long long mask_t, long long mask_s, int H, int G, int T, int S, int D, int before,
                                              int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_queries<256>(dq, dy, q, k, v, lse, inner,
                           {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void attention_vjp_03_inner_float16(float* inner, const __half* dy, const __half* y, int R, int D) {
  inner_products(inner, dy, y, R, D);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_03_mma_float16_64(__half* y, float* lse, const __half* q, const __half* k, const __half* v,
                                        const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                        long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward<64>(y, lse, q, k, v,
              {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_03_mma_float16_128(__half* y, float* lse, const __half* q, const __half* k, const __half* v,
                                         const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                         long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward<128>(y, lse, q, k, v,
               {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_forward_03_mma_float16_256(__half* y, float* lse, const __half* q, const __half* k, const __half* v,
                                         const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                         long long mask_s, int H, int G, int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  forward<256>(y, lse, q, k, v,
               {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_keys_float16_64(__half* dk, __half* dv, const __half* dy, const __half* q, const __half* k,
                                         const __half* v, const float* lse, const float* inner, const unsigned char* mask,
                                         long long mask_b, long long mask_h, long long mask_t, long long mask_s, int H, int G,
                                         int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_keys<64>(dk, dv, dy, q, k, v, lse, inner,
                       {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_keys_float16_128(__half* dk, __half* dv, const __half* dy, const __half* q, const __half* k,
                                          const __half* v, const float* lse, const float* inner, const unsigned char* mask,
                                          long long mask_b, long long mask_h, long long mask_t, long long mask_s, int H, int G,
                                          int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_keys<128>(dk, dv, dy, q, k, v, lse, inner,
                        {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_keys_float16_256(__half* dk, __half* dv, const __half* dy, const __half* q, const __half* k,
                                          const __half* v, const float* lse, const float* inner, const unsigned char* mask,
                                          long long mask_b, long long mask_h, long long mask_t, long long mask_s, int H, int G,
                                          int T, int S, int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_keys<256>(dk, dv, dy, q, k, v, lse, inner,
                        {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_queries_float16_64(__half* dq, const __half* dy, const __half* q, const __half* k, const __half* v,
                                            const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                            long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S,
                                            int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_queries<64>(dq, dy, q, k, v, lse, inner,
                          {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_queries_float16_128(__half* dq, const __half* dy, const __half* q, const __half* k, const __half* v,
                                             const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                             long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S,
                                             int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_queries<128>(dq, dy, q, k, v, lse, inner,
                           {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    attention_vjp_03_mma_queries_float16_256(__half* dq, const __half* dy, const __half* q, const __half* k, const __half* v,
                                             const float* lse, const float* inner, const unsigned char* mask, long long mask_b,
                                             long long mask_h, long long mask_t, long long mask_s, int H, int G, int T, int S,
                                             int D, int before, int after, float scale) {
  extern __shared__ __align__(16) unsigned char memory[];
  gradient_of_queries<256>(dq, dy, q, k, v, lse, inner,
                           {mask, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}
