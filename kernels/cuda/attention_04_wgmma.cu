// attention 04, wgmma: warpgroups multiply from swizzled tiles that TMA brings; weights stay in registers between the two products.
//
// A block of two warpgroups owns 128 rows, a warpgroup 64 of them, and walks over tiles of the other side. Thread 0 asks for the
// next pair of tiles while this one is multiplied: a stage has an mbarrier for each of its tiles, which ends a phase when the
// bytes are there, and `empty`, which ends one when all warps have multiplied it. Pair n lies in stage n % STAGES and is the
// (n / STAGES)-th there: that number's last bit is the phase to wait for.
//
// wgmma leaves a score in the very lane that must bring it as a factor of the next product: scores become weights, are rounded to
// bfloat16 and go on as they lie, while the other factor is read from shared memory in the direction in which it is needed. So
// nothing is transposed and no weight is ever in memory. Which lane holds what is written in on_cpu/wgmma.hpp: here, a thread's
// number i of a tile is in row group + 8 (i / 2 % 2) of its warp and in column 8 (i / 4) + 2 member + i % 2.
//
// Weights are powers of two: p = 2^(s - lse) with s = q k^T scale log2(e), which is what the hardware computes. Back (Dao 2023,
// FlashAttention-2): one kernel owns keys and walks over queries with transposed scores, S^T = k q^T, so that P^T and dS^T are
// what lies in registers; one owns queries. Every sum has one owner and one order, and nothing is added by atomics. That leaves
// no room for a head_dim of 256, for which there is the way forward alone: sums for dk and dv would be 256 registers a thread.
//
// Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it whose mask is not 0. A
// query that sees nothing gets y = 0 and lse = infinity, so that p = 0 on the way back. A hidden weight is a zero that is
// multiplied all the same, so a number that is not finite spoils the tile where it is hidden, by padding too. lse and
// inner = <dy, y> are float32, for B H heads of T rounded up to 128 queries: those beyond T, whose q and dy are zeros, add nothing
// to any gradient.
// q, y, dy, dq: B H heads of T x D; k, v, dk, dv: B G heads of S x D, H a multiple of G. D: a multiple of 8 up to HEAD_DIM.
// mask: bytes, with strides by batch entry, head, query and key, 0 along axes that it does not have; masked: whether to read it.

#include <cuda_bf16.h>

#include "attention_hopper.cuh"
#include "hopper.cuh"

constexpr int ANY = 0x7fffffff;   // columns: as many as there are
constexpr int THREADS = 256, STAGES = 2;
constexpr int WALKED = 64;        // rows of a walked tile on the way back

struct Barriers {
  Mbarrier first[STAGES], second[STAGES], empty[STAGES], owned;
};

__device__ void init_barriers(Barriers& barriers) {
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      mbarrier_init(&barriers.first[s], 1);
      mbarrier_init(&barriers.second[s], 1);
      mbarrier_init(&barriers.empty[s], THREADS / 32);
    }
    mbarrier_init(&barriers.owned, 1);
    mbarrier_init_fence();
  }
  __syncthreads();  // the mbarriers are there
}

// By thread 0: pair n of tiles into its stage.
template <int ROWS, int HEAD_DIM>
__device__ void load_pair(unsigned char* stages, Barriers& barriers, int n, const TensorMap& first, const TensorMap& second,
                          int row, int head) {
  constexpr int TILE = ROWS * HEAD_DIM * 2;
  const int s = n % STAGES;
  unsigned char* stage = stages + s * 2 * TILE;
  mbarrier_wait(&barriers.empty[s], n / STAGES + 1 & 1);  // the first time round, the phase before phase 0 counts as ended
  mbarrier_arrive_expecting(&barriers.first[s], TILE);
  load_tile<ROWS, HEAD_DIM>(stage, first, row, head, &barriers.first[s]);
  mbarrier_arrive_expecting(&barriers.second[s], TILE);
  load_tile<ROWS, HEAD_DIM>(stage + TILE, second, row, head, &barriers.second[s]);
}

// The first of a thread's two rows in a block's tile; the other one is 8 below.
__device__ int row_of_thread() { return threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4; }

template <int HEAD_DIM>
__device__ void forward(__nv_bfloat16* y, float* lse, const TensorMap& q, const TensorMap& k, const TensorMap& v,
                        const Problem& of, unsigned char* memory) {
  constexpr int KEYS = KEYS_OF<HEAD_DIM>, TILE = KEYS * HEAD_DIM * 2;
  unsigned char *tile_q = aligned_1024(memory), *stages = tile_q + OWNED * HEAD_DIM * 2;
  Barriers& barriers = *reinterpret_cast<Barriers*>(stages + STAGES * 2 * TILE);
  const int warpgroup = threadIdx.x / 128, lane = threadIdx.x % 32, T = of.T, S = of.S;
  const int tiles = (T + OWNED - 1) / OWNED, head = blockIdx.x / tiles, first = blockIdx.x % tiles * OWNED;
  const int begin = max(0, first + S - T - of.before), end = min(S, min(T, first + OWNED) + S - T + of.after);
  const int many = end > begin ? (end - begin + KEYS - 1) / KEYS : 0;
  const int row = first + row_of_thread();
  const int low = row + S - T - of.before, high = row + S - T + of.after;
  float m[2] = {LOWEST, LOWEST}, total[2] = {}, sums[HEAD_DIM / 2] = {};  // total: of the thread's own keys
  init_barriers(barriers);
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(&barriers.owned, OWNED * HEAD_DIM * 2);
    load_tile<OWNED, HEAD_DIM>(tile_q, q, first, head, &barriers.owned);
    if (many) load_pair<KEYS, HEAD_DIM>(stages, barriers, 0, k, v, begin, of.key_head(head));
  }
  __syncwarp();
  mbarrier_wait(&barriers.owned, 0);

  for (int n = 0; n < many; n++) {
    const int stage = n % STAGES, phase = n / STAGES & 1;
    const unsigned char* tile_k = stages + stage * 2 * TILE;
    if (threadIdx.x == 0 && n + 1 < many)  // where pair n - 1 was
      load_pair<KEYS, HEAD_DIM>(stages, barriers, n + 1, k, v, begin + (n + 1) * KEYS, of.key_head(head));
    __syncwarp();
    float s[KEYS / 2] = {}, shrink[2];
    mbarrier_wait(&barriers.first[stage], phase);
    wgmma_fence(s);
    add_dots<HEAD_DIM, OWNED, KEYS>(s, tile_q + warpgroup * BOX, tile_k);
    wgmma_commit();
    wgmma_wait<0>(s);

    scale_and_hide(s, of.scale * LOG2_E, begin + n * KEYS, low, high, S);
    hide_masked(s, of.mask_of(head), row, begin + n * KEYS, T, S, of.mask_t, of.mask_s);
    weigh(s, m, total, shrink);
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 2; i++) sums[i] *= shrink[i / 2 % 2];
    unsigned weights[KEYS / 16][4];
    pack(weights, s);

    mbarrier_wait(&barriers.second[stage], phase);
    wgmma_fence(sums);
    add_product<KEYS>(sums, weights, tile_k + TILE);
    wgmma_commit();
    wgmma_wait<0>(sums);
    if (lane == 0) mbarrier_arrive(&barriers.empty[stage]);  // this warp does not read the pair any more
  }

  float factor[2];
  for (int r = 0; r < 2; r++) {
    for (int away = 2; away > 0; away /= 2) total[r] += __shfl_xor_sync(ALL, total[r], away);
    const bool nothing = total[r] == 0.0f;
    factor[r] = nothing ? 0.0f : 1.0f / total[r];
    if (lane % 4 == 0) lse[head * queries(of) + row + 8 * r] = nothing ? infinity() : m[r] + log2f(total[r]);
  }
  store(y + (size_t)head * T * of.D, sums, factor, row, T, of.D);
}

template <int HEAD_DIM>
__device__ void gradient_of_keys(__nv_bfloat16* dk, __nv_bfloat16* dv, const TensorMap& dy, const TensorMap& q,
                                 const TensorMap& k, const TensorMap& v, const float* lse, const float* inner, const Problem& of,
                                 unsigned char* memory) {
  constexpr int TILE = WALKED * HEAD_DIM * 2;
  unsigned char *tile_k = aligned_1024(memory), *tile_v = tile_k + OWNED * HEAD_DIM * 2;
  unsigned char* stages = tile_v + OWNED * HEAD_DIM * 2;
  Barriers& barriers = *reinterpret_cast<Barriers*>(stages + STAGES * 2 * TILE);
  const int warpgroup = threadIdx.x / 128, lane = threadIdx.x % 32, T = of.T, S = of.S;
  const int tiles = (S + OWNED - 1) / OWNED, key_head = blockIdx.x / tiles, first = blockIdx.x % tiles * OWNED;
  const int share = of.H / of.G;  // heads of queries, over which the block walks in turn
  const int begin = max(0, first - (S - T) - of.after) / WALKED * WALKED;
  const int end = min(T, min(S, first + OWNED) - (S - T) + of.before);
  const int each = end > begin ? (end - begin + WALKED - 1) / WALKED : 0, many = share * each;
  const int row = first + row_of_thread();
  const int low = row - (S - T) - of.after, high = row - (S - T) + of.before;
  float sum_k[HEAD_DIM / 2] = {}, sum_v[HEAD_DIM / 2] = {};
  const auto load = [&](int n) {
    load_pair<WALKED, HEAD_DIM>(stages, barriers, n, q, dy, begin + n % each * WALKED, key_head * share + n / each);
  };
  init_barriers(barriers);
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(&barriers.owned, 2 * OWNED * HEAD_DIM * 2);
    load_tile<OWNED, HEAD_DIM>(tile_k, k, first, key_head, &barriers.owned);
    load_tile<OWNED, HEAD_DIM>(tile_v, v, first, key_head, &barriers.owned);
    if (many) load(0);
  }
  __syncwarp();
  mbarrier_wait(&barriers.owned, 0);

  for (int n = 0; n < many; n++) {
    const int stage = n % STAGES, phase = n / STAGES & 1, query = begin + n % each * WALKED, head = key_head * share + n / each;
    const size_t at = head * queries(of) + query + 2 * (lane % 4);
    const unsigned char* tile_q = stages + stage * 2 * TILE;
    if (threadIdx.x == 0 && n + 1 < many) load(n + 1);  // where pair n - 1 was
    __syncwarp();
    float p[WALKED / 2] = {}, ds[WALKED / 2] = {};
    mbarrier_wait(&barriers.first[stage], phase);
    wgmma_fence(p);
    add_dots<HEAD_DIM, OWNED, WALKED>(p, tile_k + warpgroup * BOX, tile_q);
    wgmma_commit();
    mbarrier_wait(&barriers.second[stage], phase);
    wgmma_fence(ds);
    add_dots<HEAD_DIM, OWNED, WALKED>(ds, tile_v + warpgroup * BOX, tile_q + TILE);
    wgmma_commit();
    wgmma_wait<1>(p);
    scale_and_hide(p, of.scale * LOG2_E, query, low, high, ANY);
    hide_masked(p, of.mask_of(head), row, query, S, T, of.mask_s, of.mask_t);
#pragma unroll
    for (int i = 0; i < WALKED / 2; i += 4) {
      const float2 two = *reinterpret_cast<const float2*>(lse + at + i * 2);
      p[i] = exp2f(p[i] - two.x);
      p[i + 1] = exp2f(p[i + 1] - two.y);
      p[i + 2] = exp2f(p[i + 2] - two.x);
      p[i + 3] = exp2f(p[i + 3] - two.y);
    }
    wgmma_wait<0>(ds);
#pragma unroll
    for (int i = 0; i < WALKED / 2; i += 4) {
      const float2 two = *reinterpret_cast<const float2*>(inner + at + i * 2);
      ds[i] = p[i] * (ds[i] - two.x);
      ds[i + 1] = p[i + 1] * (ds[i + 1] - two.y);
      ds[i + 2] = p[i + 2] * (ds[i + 2] - two.x);
      ds[i + 3] = p[i + 3] * (ds[i + 3] - two.y);
    }
    unsigned weights_p[WALKED / 16][4], weights_ds[WALKED / 16][4];
    pack(weights_p, p);
    pack(weights_ds, ds);
    wgmma_fence(sum_v);
    add_product<WALKED>(sum_v, weights_p, tile_q + TILE);
    wgmma_fence(sum_k);
    add_product<WALKED>(sum_k, weights_ds, tile_q);
    wgmma_commit();
    wgmma_wait<0>(sum_v);
    wgmma_wait<0>(sum_k);
    if (lane == 0) mbarrier_arrive(&barriers.empty[stage]);  // this warp does not read the pair any more
  }
  store(dk + (size_t)key_head * S * of.D, sum_k, {of.scale, of.scale}, row, S, of.D);
  store(dv + (size_t)key_head * S * of.D, sum_v, {1.0f, 1.0f}, row, S, of.D);
}

template <int HEAD_DIM>
__device__ void gradient_of_queries(__nv_bfloat16* dq, const TensorMap& dy, const TensorMap& q, const TensorMap& k,
                                    const TensorMap& v, const float* lse, const float* inner, const Problem& of,
                                    unsigned char* memory) {
  constexpr int TILE = WALKED * HEAD_DIM * 2;
  unsigned char *tile_q = aligned_1024(memory), *tile_dy = tile_q + OWNED * HEAD_DIM * 2;
  unsigned char* stages = tile_dy + OWNED * HEAD_DIM * 2;
  Barriers& barriers = *reinterpret_cast<Barriers*>(stages + STAGES * 2 * TILE);
  const int warpgroup = threadIdx.x / 128, lane = threadIdx.x % 32, T = of.T, S = of.S;
  const int tiles = (T + OWNED - 1) / OWNED, head = blockIdx.x / tiles, first = blockIdx.x % tiles * OWNED;
  const int begin = max(0, first + S - T - of.before), end = min(S, min(T, first + OWNED) + S - T + of.after);
  const int many = end > begin ? (end - begin + WALKED - 1) / WALKED : 0;
  const int row = first + row_of_thread();
  const int low = row + S - T - of.before, high = row + S - T + of.after;
  float lse_of[2], inner_of[2], sums[HEAD_DIM / 2] = {};
  for (int r = 0; r < 2; r++) {
    lse_of[r] = lse[head * queries(of) + row + 8 * r];
    inner_of[r] = inner[head * queries(of) + row + 8 * r];
  }
  init_barriers(barriers);
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(&barriers.owned, 2 * OWNED * HEAD_DIM * 2);
    load_tile<OWNED, HEAD_DIM>(tile_q, q, first, head, &barriers.owned);
    load_tile<OWNED, HEAD_DIM>(tile_dy, dy, first, head, &barriers.owned);
    if (many) load_pair<WALKED, HEAD_DIM>(stages, barriers, 0, k, v, begin, of.key_head(head));
  }
  __syncwarp();
  mbarrier_wait(&barriers.owned, 0);

  for (int n = 0; n < many; n++) {
    const int stage = n % STAGES, phase = n / STAGES & 1;
    const unsigned char* tile_k = stages + stage * 2 * TILE;
    if (threadIdx.x == 0 && n + 1 < many)  // where pair n - 1 was
      load_pair<WALKED, HEAD_DIM>(stages, barriers, n + 1, k, v, begin + (n + 1) * WALKED, of.key_head(head));
    __syncwarp();
    float p[WALKED / 2] = {}, ds[WALKED / 2] = {};
    mbarrier_wait(&barriers.first[stage], phase);
    wgmma_fence(p);
    add_dots<HEAD_DIM, OWNED, WALKED>(p, tile_q + warpgroup * BOX, tile_k);
    wgmma_commit();
    mbarrier_wait(&barriers.second[stage], phase);
    wgmma_fence(ds);
    add_dots<HEAD_DIM, OWNED, WALKED>(ds, tile_dy + warpgroup * BOX, tile_k + TILE);
    wgmma_commit();
    wgmma_wait<1>(p);
    scale_and_hide(p, of.scale * LOG2_E, begin + n * WALKED, low, high, S);
    hide_masked(p, of.mask_of(head), row, begin + n * WALKED, T, S, of.mask_t, of.mask_s);
#pragma unroll
    for (int i = 0; i < WALKED / 2; i++) p[i] = exp2f(p[i] - lse_of[i / 2 % 2]);
    wgmma_wait<0>(ds);
#pragma unroll
    for (int i = 0; i < WALKED / 2; i++) ds[i] = p[i] * (ds[i] - inner_of[i / 2 % 2]);
    unsigned weights[WALKED / 16][4];
    pack(weights, ds);
    wgmma_fence(sums);
    add_product<WALKED>(sums, weights, tile_k);
    wgmma_commit();
    wgmma_wait<0>(sums);
    if (lane == 0) mbarrier_arrive(&barriers.empty[stage]);  // this warp does not read the pair any more
  }
  store(dq + (size_t)head * T * of.D, sums, {of.scale, of.scale}, row, T, of.D);
}

// inner = <dy, y> of each query, 0 beyond T: a warp for each, B H times T rounded up.
extern "C" __global__ void attention_vjp_04_inner(float* inner, const __nv_bfloat16* dy, const __nv_bfloat16* y, int T, int D) {
  const int at = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  const int queries = (T + OWNED - 1) / OWNED * OWNED, row = at % queries;
  const size_t from = ((size_t)(at / queries) * T + row) * D;
  float sum = 0.0f;
  for (int d = 2 * lane; d < D && row < T; d += 64) {
    const float2 a = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(dy + from + d));
    const float2 b = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(y + from + d));
    sum += a.x * b.x;
    sum += a.y * b.y;
  }
  for (int away = 16; away > 0; away /= 2) sum += __shfl_xor_sync(ALL, sum, away);
  if (lane == 0) inner[at] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_forward_04_wgmma_64(__nv_bfloat16* y, float* lse, const __grid_constant__ TensorMap q,
                                  const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                                  const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                  long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                  float scale) {
  extern __shared__ unsigned char memory[];
  forward<64>(y, lse, q, k, v,
              {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_forward_04_wgmma_128(__nv_bfloat16* y, float* lse, const __grid_constant__ TensorMap q,
                                   const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                                   const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                   long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                   float scale) {
  extern __shared__ unsigned char memory[];
  forward<128>(y, lse, q, k, v,
               {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_forward_04_wgmma_256(__nv_bfloat16* y, float* lse, const __grid_constant__ TensorMap q,
                                   const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                                   const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                   long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                   float scale) {
  extern __shared__ unsigned char memory[];
  forward<256>(y, lse, q, k, v,
               {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_vjp_04_wgmma_keys_64(__nv_bfloat16* dk, __nv_bfloat16* dv, const __grid_constant__ TensorMap dy,
                                   const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                                   const __grid_constant__ TensorMap v, const float* lse, const float* inner,
                                   const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                   long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                   float scale) {
  extern __shared__ unsigned char memory[];
  gradient_of_keys<64>(dk, dv, dy, q, k, v, lse, inner,
                       {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_vjp_04_wgmma_keys_128(__nv_bfloat16* dk, __nv_bfloat16* dv, const __grid_constant__ TensorMap dy,
                                    const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                                    const __grid_constant__ TensorMap v, const float* lse, const float* inner,
                                    const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                    long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                    float scale) {
  extern __shared__ unsigned char memory[];
  gradient_of_keys<128>(dk, dv, dy, q, k, v, lse, inner,
                        {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_vjp_04_wgmma_queries_64(__nv_bfloat16* dq, const __grid_constant__ TensorMap dy,
                                      const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                                      const __grid_constant__ TensorMap v, const float* lse, const float* inner,
                                      const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                      long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                      float scale) {
  extern __shared__ unsigned char memory[];
  gradient_of_queries<64>(dq, dy, q, k, v, lse, inner,
                          {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_vjp_04_wgmma_queries_128(__nv_bfloat16* dq, const __grid_constant__ TensorMap dy,
                                       const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                                       const __grid_constant__ TensorMap v, const float* lse, const float* inner,
                                       const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                       long long mask_s, int masked, int H, int G, int T, int S, int D, int before, int after,
                                       float scale) {
  extern __shared__ unsigned char memory[];
  gradient_of_queries<128>(dq, dy, q, k, v, lse, inner,
                           {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}
