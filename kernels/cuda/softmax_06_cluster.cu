// softmax 06, cluster: eight blocks hold one long row in their shared memory, and tell each other two numbers each.
//
// A row that one block cannot hold is read twice by rung 04. Here each block of a cluster (sm_90a) reads an eighth of it once,
// keeps e = exp(x - largest) with the largest number of its own part, and offers that number and the sum of its e. When all have
// (cluster_sync), it reads the other seven pairs from their shared memory and rescales its part as rung 04 does. y = e times
// exp(own largest - largest) / total. In the vjp a block offers its part of sum(y dy). x, y, dy, dx: R rows of N numbers.

#include "hopper.cuh"

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;
constexpr int BLOCKS = 8, WARPS = 16, THREADS = 32 * WARPS;

struct Offer {  // of a block to the others: its largest number and its sum. Everything else in shared memory is its own
  float largest, total, of_warps[WARPS], unused[14];
};

// Where a block's part of the row begins, and how long it is: 0 where the row is short.
__device__ int2 part_of(int N) {
  const int each = ((N + BLOCKS - 1) / BLOCKS + 3) / 4 * 4, first = (int)cluster_rank() * each;
  return make_int2(first, max(0, min(each, N - first)));
}

// Four numbers of a part from place j on; `beyond` after its end. Parts begin at multiples of 16 bytes where N is one of 4.
__device__ float4 load4(const float* part, int j, int length, int N, float beyond) {
  if (N % 4 == 0) return *reinterpret_cast<const float4*>(part + j);
  return make_float4(part[j], j + 1 < length ? part[j + 1] : beyond, j + 2 < length ? part[j + 2] : beyond,
                     j + 3 < length ? part[j + 3] : beyond);
}

__device__ void store4(float* part, int j, int length, int N, float4 v) {
  if (N % 4 == 0) {
    *reinterpret_cast<float4*>(part + j) = v;
    return;
  }
  part[j] = v.x;
  if (j + 1 < length) part[j + 1] = v.y;
  if (j + 2 < length) part[j + 2] = v.z;
  if (j + 3 < length) part[j + 3] = v.w;
}

__device__ float block_sum(float v, float* of_warps) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = v;
  __syncthreads();  // every warp's sum is there
  float total = 0.0f;
  for (int w = 0; w < WARPS; w++) total += of_warps[w];
  return total;
}

extern "C" __global__ void __cluster_dims__(BLOCKS) __launch_bounds__(THREADS)
    softmax_forward_06_cluster(float* y, const float* x, int R, int N) {
  extern __shared__ __align__(16) float4 memory[];
  Offer* mine = reinterpret_cast<Offer*>(memory);
  float4* held = memory + sizeof(Offer) / sizeof(float4);
  const int2 part = part_of(N);
  x += (size_t)(blockIdx.x / BLOCKS) * N + part.x;
  y += (size_t)(blockIdx.x / BLOCKS) * N + part.x;
  const float infinity = __int_as_float(0x7f800000);
  float own = LOWEST;
  for (int j = 4 * threadIdx.x; j < part.y; j += 4 * THREADS) {
    const float4 four = load4(x, j, part.y, N, -infinity);
    held[j / 4] = four;
    own = fmaxf(fmaxf(fmaxf(own, four.x), four.y), fmaxf(four.z, four.w));
  }
  for (int away = 16; away > 0; away /= 2) own = fmaxf(own, __shfl_xor_sync(ALL, own, away));
  if (threadIdx.x % 32 == 0) mine->of_warps[threadIdx.x / 32] = own;
  __syncthreads();  // every warp's maximum is there
  for (int w = 0; w < WARPS; w++) own = fmaxf(own, mine->of_warps[w]);
  __syncthreads();  // nobody reads the maxima any more
  float sum = 0.0f;
  for (int j = 4 * threadIdx.x; j < part.y; j += 4 * THREADS) {  // a thread meets what it held itself
    const float4 four = held[j / 4];
    const float4 e = make_float4(expf(four.x - own), expf(four.y - own), expf(four.z - own), expf(four.w - own));
    held[j / 4] = e;
    sum += (e.x + e.y) + (e.z + e.w);
  }
  sum = block_sum(sum, mine->of_warps);
  if (threadIdx.x == 0) mine->largest = own, mine->total = sum;
  cluster_sync();  // every block's offer is there
  float m = LOWEST, total = 0.0f;
  for (int b = 0; b < BLOCKS; b++) m = fmaxf(m, cluster_map(mine, b)->largest);
  for (int b = 0; b < BLOCKS; b++) total += cluster_map(mine, b)->total * expf(cluster_map(mine, b)->largest - m);
  cluster_sync();  // nobody reads this block's offer any more: it may end
  const float scale = expf(own - m) / total;
  for (int j = 4 * threadIdx.x; j < part.y; j += 4 * THREADS) {
    const float4 e = held[j / 4];
    store4(y, j, part.y, N, make_float4(e.x * scale, e.y * scale, e.z * scale, e.w * scale));
  }
}

extern "C" __global__ void __cluster_dims__(BLOCKS) __launch_bounds__(THREADS)
    softmax_vjp_06_cluster(float* dx, const float* dy, const float* y, int R, int N) {
  extern __shared__ __align__(16) float4 memory[];
  Offer* mine = reinterpret_cast<Offer*>(memory);
  float4* held = memory + sizeof(Offer) / sizeof(float4);  // of y and dy by turns
  const int2 part = part_of(N);
  dy += (size_t)(blockIdx.x / BLOCKS) * N + part.x;
  y += (size_t)(blockIdx.x / BLOCKS) * N + part.x;
  dx += (size_t)(blockIdx.x / BLOCKS) * N + part.x;
  float sum = 0.0f;
  for (int j = 4 * threadIdx.x; j < part.y; j += 4 * THREADS) {
    const float4 p = load4(y, j, part.y, N, 0.0f), d = load4(dy, j, part.y, N, 0.0f);
    held[j / 2] = p;
    held[j / 2 + 1] = d;
    sum += (p.x * d.x + p.y * d.y) + (p.z * d.z + p.w * d.w);
  }
  sum = block_sum(sum, mine->of_warps);
  if (threadIdx.x == 0) mine->total = sum;
  cluster_sync();  // every block's offer is there
  float inner = 0.0f;
  for (int b = 0; b < BLOCKS; b++) inner += cluster_map(mine, b)->total;
  cluster_sync();  // nobody reads this block's offer any more: it may end
  for (int j = 4 * threadIdx.x; j < part.y; j += 4 * THREADS) {
    const float4 p = held[j / 2], d = held[j / 2 + 1];
    store4(dx, j, part.y, N,
           make_float4(p.x * (d.x - inner), p.y * (d.y - inner), p.z * (d.z - inner), p.w * (d.w - inner)));
  }
}
