// attention 05, warp specialised: one warpgroup asks for tiles, two take turns: one multiplies while the other weighs its scores.
//
// As FlashAttention-3 (Shah et al. 2024) describes it. The producer runs ahead as far as the ring allows and gives its registers
// to the consumers, of which each owns 64 of the block's 128 queries. Exponentials have far fewer units than products, so the two
// are overlapped twice:
//   between warpgroups: a consumer starts its products only in its turn, and passes the turn on when they are under way. So one
//   weighs scores while the tensor cores work for the other one. A turn is a named barrier at which its owner waits and the
//   other one arrives.
//   within a warpgroup: the scores of tile n are asked for before the product of the weights and values of tile n - 1, and are
//   weighed while the latter is still under way. So weights live one step longer, beside the next scores.
// Keys are given back when their scores are there, values when their product is: they have rings of their own. Tile n lies in
// stage n % STAGES and is the (n / STAGES)-th there: that number's last bit is the phase to wait for.
//
// Forward only: the way back is rung 04's, which takes y and lse as they are made here. Layouts, hidden keys and base 2 are rung
// 04's too. A thread's number i of a tile is in row group + 8 (i / 2 % 2) of its warp and in column 8 (i / 4) + 2 member + i % 2.
// Query i stands at i + S - T and sees the keys from `before` places before it to `after` places after it whose mask is not 0. A
// query that sees nothing gets y = 0 and lse = infinity. lse: float32, B H heads of T rounded up to 128.
// q, y: B H heads of T x D; k, v: B G heads of S x D, H a multiple of G. D: a multiple of 8 up to HEAD_DIM.
// mask: bytes, with strides by batch entry, head, query and key, 0 along axes that it does not have; masked: whether to read it.

#include <cuda_bf16.h>

#include "attention_hopper.cuh"
#include "hopper.cuh"

constexpr int THREADS = 384, STAGES = 2;
constexpr int CONSUMERS = 2;   // warpgroups; the first one of the block is the producer
constexpr int TURN = 1;        // the named barrier of the first consumer; the next one is the other's

struct Barriers {
  Mbarrier queries, keys[STAGES], values[STAGES], keys_read[STAGES], values_read[STAGES];
};

template <int HEAD_DIM>
__device__ void produce(const TensorMap& q, const TensorMap& k, const TensorMap& v, const Problem& of, unsigned char* tile_q,
                        Barriers& barriers, int head, int first, int begin, int many) {
  constexpr int KEYS = KEYS_OF<HEAD_DIM>, TILE = KEYS * HEAD_DIM * 2;
  unsigned char *tiles_k = tile_q + OWNED * HEAD_DIM * 2, *tiles_v = tiles_k + STAGES * TILE;
  mbarrier_arrive_expecting(&barriers.queries, OWNED * HEAD_DIM * 2);
  load_tile<OWNED, HEAD_DIM>(tile_q, q, first, head, &barriers.queries);
  const auto load = [&](unsigned char* tiles, const TensorMap& heads, int n, Mbarrier* there, Mbarrier* read) {
    const int s = n % STAGES;
    mbarrier_wait(&read[s], n / STAGES + 1 & 1);  // the first time round, the phase before phase 0 counts as ended
    mbarrier_arrive_expecting(&there[s], TILE);
    load_tile<KEYS, HEAD_DIM>(tiles + s * TILE, heads, begin + n * KEYS, of.key_head(head), &there[s]);
  };
  for (int n = 0; n <= many; n++) {  // in the order in which they are wanted
    if (n < many) load(tiles_k, k, n, barriers.keys, barriers.keys_read);
    if (n > 0) load(tiles_v, v, n - 1, barriers.values, barriers.values_read);
  }
}

template <int HEAD_DIM>
__device__ void consume(__nv_bfloat16* y, float* lse, const Problem& of, const unsigned char* tile_q, Barriers& barriers, int head,
                        int first, int begin, int many) {
  constexpr int KEYS = KEYS_OF<HEAD_DIM>, TILE = KEYS * HEAD_DIM * 2;
  const unsigned char *tiles_k = tile_q + OWNED * HEAD_DIM * 2, *tiles_v = tiles_k + STAGES * TILE;
  const int consumer = threadIdx.x / 128 - 1, lane = threadIdx.x % 32, T = of.T, S = of.S;
  const int row = first + 64 * consumer + threadIdx.x / 32 % 4 * 16 + lane / 4;  // and the row 8 below it
  const int low = row + S - T - of.before, high = row + S - T + of.after;
  const unsigned char* own = tile_q + consumer * BOX;
  float m[2] = {LOWEST, LOWEST}, total[2] = {}, shrink[2], sums[HEAD_DIM / 2] = {};  // total: of the thread's own keys
  unsigned weights[KEYS / 16][4];

  const auto wait_for_turn = [&] { named_barrier_sync(TURN + consumer, CONSUMERS * 128); };
  const auto pass_turn = [&](int n) {  // the second one begins by passing it to the first, so it has none to pass at the end
    if (consumer == 0 || n + 1 < many) named_barrier_arrive(TURN + 1 - consumer, CONSUMERS * 128);
  };
  mbarrier_wait(&barriers.queries, 0);
  if (many) {
    float s[KEYS / 2] = {};
    if (consumer == 1) named_barrier_arrive(TURN, CONSUMERS * 128);
    mbarrier_wait(&barriers.keys[0], 0);
    wait_for_turn();
    wgmma_fence(s);
    add_dots<HEAD_DIM, OWNED, KEYS>(s, own, tiles_k);
    wgmma_commit();
    pass_turn(0);
    wgmma_wait<0>(s);
    if (lane == 0) mbarrier_arrive(&barriers.keys_read[0]);  // this warp does not read the keys any more
    scale_and_hide(s, of.scale * LOG2_E, begin, low, high, S);
    hide_masked(s, of.mask_of(head), row, begin, T, S, of.mask_t, of.mask_s);
    weigh(s, m, total, shrink);
    pack(weights, s);
  }
  for (int n = 1; n < many; n++) {
    const int stage = n % STAGES, phase = n / STAGES & 1, stage_v = (n - 1) % STAGES, phase_v = (n - 1) / STAGES & 1;
    float s[KEYS / 2] = {};
    mbarrier_wait(&barriers.keys[stage], phase);
    mbarrier_wait(&barriers.values[stage_v], phase_v);
    wait_for_turn();
    wgmma_fence(s);
    add_dots<HEAD_DIM, OWNED, KEYS>(s, own, tiles_k + stage * TILE);
    wgmma_commit();
    wgmma_fence(sums);
    add_product<KEYS>(sums, weights, tiles_v + stage_v * TILE);
    wgmma_commit();
    pass_turn(n);
    wgmma_wait<1>(s);
    if (lane == 0) mbarrier_arrive(&barriers.keys_read[stage]);
    scale_and_hide(s, of.scale * LOG2_E, begin + n * KEYS, low, high, S);
    hide_masked(s, of.mask_of(head), row, begin + n * KEYS, T, S, of.mask_t, of.mask_s);
    weigh(s, m, total, shrink);
    wgmma_wait<0>(sums);
    if (lane == 0) mbarrier_arrive(&barriers.values_read[stage_v]);
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 2; i++) sums[i] *= shrink[i / 2 % 2];
    pack(weights, s);
  }
  if (many) {
    const int stage_v = (many - 1) % STAGES, phase_v = (many - 1) / STAGES & 1;
    mbarrier_wait(&barriers.values[stage_v], phase_v);
    wgmma_fence(sums);
    add_product<KEYS>(sums, weights, tiles_v + stage_v * TILE);
    wgmma_commit();
    wgmma_wait<0>(sums);
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
__device__ void forward(__nv_bfloat16* y, float* lse, const TensorMap& q, const TensorMap& k, const TensorMap& v,
                        const Problem& of, unsigned char* memory) {
  constexpr int KEYS = KEYS_OF<HEAD_DIM>;
  unsigned char* tile_q = aligned_1024(memory);
  Barriers& barriers = *reinterpret_cast<Barriers*>(tile_q + (OWNED + STAGES * 2 * KEYS) * HEAD_DIM * 2);
  const int T = of.T, S = of.S, tiles = (T + OWNED - 1) / OWNED;
  const int head = blockIdx.x / tiles, first = blockIdx.x % tiles * OWNED;
  const int begin = max(0, first + S - T - of.before), end = min(S, min(T, first + OWNED) + S - T + of.after);
  const int many = end > begin ? (end - begin + KEYS - 1) / KEYS : 0;
  if (threadIdx.x == 0) {
    mbarrier_init(&barriers.queries, 1);
    for (int s = 0; s < STAGES; s++) {
      mbarrier_init(&barriers.keys[s], 1);
      mbarrier_init(&barriers.values[s], 1);
      mbarrier_init(&barriers.keys_read[s], CONSUMERS * 4);  // warps
      mbarrier_init(&barriers.values_read[s], CONSUMERS * 4);
    }
    mbarrier_init_fence();
  }
  __syncthreads();  // the mbarriers are there
  if (threadIdx.x < 128) {
    registers_give<40>();
    if (threadIdx.x == 0) produce<HEAD_DIM>(q, k, v, of, tile_q, barriers, head, first, begin, many);
  } else {
    registers_take<232>();
    consume<HEAD_DIM>(y, lse, of, tile_q, barriers, head, first, begin, many);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_forward_05_warp_specialised_64(__nv_bfloat16* y, float* lse, const __grid_constant__ TensorMap q,
                                             const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                                             const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                             long long mask_s, int masked, int H, int G, int T, int S, int D, int before,
                                             int after, float scale) {
  extern __shared__ unsigned char memory[];
  forward<64>(y, lse, q, k, v,
              {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_forward_05_warp_specialised_128(__nv_bfloat16* y, float* lse, const __grid_constant__ TensorMap q,
                                              const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                                              const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                              long long mask_s, int masked, int H, int G, int T, int S, int D, int before,
                                              int after, float scale) {
  extern __shared__ unsigned char memory[];
  forward<128>(y, lse, q, k, v,
               {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attention_forward_05_warp_specialised_256(__nv_bfloat16* y, float* lse, const __grid_constant__ TensorMap q,
                                              const __grid_constant__ TensorMap k, const __grid_constant__ TensorMap v,
                                              const unsigned char* mask, long long mask_b, long long mask_h, long long mask_t,
                                              long long mask_s, int masked, int H, int G, int T, int S, int D, int before,
                                              int after, float scale) {
  extern __shared__ unsigned char memory[];
  forward<256>(y, lse, q, k, v,
               {masked ? mask : nullptr, mask_b, mask_h, mask_t, mask_s, H, G, T, S, D, before, after, scale}, memory);
}
