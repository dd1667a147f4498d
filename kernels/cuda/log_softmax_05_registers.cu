// log_softmax 05, registers: a row is read once, 16 bytes a load, and stays in the registers of its block until y is written.
//
// 256 threads hold 4 float4 each: rows of up to 4096 numbers (the launcher gives longer ones to rung 04). Places beyond the end of
// the row hold -infinity, whose exponential is 0. Rows begin at multiples of 16 bytes only where N is a multiple of 4; otherwise
// numbers are read and written one by one. The vjp reads dy first, so that y is on its way while dy is added up.
// x, y, dy, dx: R rows of N numbers.

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;
constexpr int WARPS = 8, THREADS = 32 * WARPS, HELD = 4;

// Four numbers of a row from place j on; `beyond` after its end.
__device__ float4 load4(const float* row, int j, int N, float beyond) {
  if (N % 4 == 0 && j < N) return *reinterpret_cast<const float4*>(row + j);
  return make_float4(j < N ? row[j] : beyond, j + 1 < N ? row[j + 1] : beyond, j + 2 < N ? row[j + 2] : beyond,
                     j + 3 < N ? row[j + 3] : beyond);
}

__device__ void store4(float* row, int j, int N, float4 v) {
  if (N % 4 == 0 && j < N) {
    *reinterpret_cast<float4*>(row + j) = v;
    return;
  }
  if (j < N) row[j] = v.x;
  if (j + 1 < N) row[j + 1] = v.y;
  if (j + 2 < N) row[j + 2] = v.z;
  if (j + 3 < N) row[j + 3] = v.w;
}

__device__ float block_sum(float v, float* of_warps) {
  for (int away = 16; away > 0; away /= 2) v += __shfl_xor_sync(ALL, v, away);
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = v;
  __syncthreads();  // every warp's sum is there
  float total = 0.0f;
  for (int w = 0; w < WARPS; w++) total += of_warps[w];
  return total;
}

extern "C" __global__ void __launch_bounds__(THREADS) log_softmax_forward_05_registers(float* y, const float* x, int R, int N) {
  __shared__ float maxima[WARPS], sums[WARPS];
  x += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  const float infinity = __int_as_float(0x7f800000);
  float4 held[HELD];
  float m = LOWEST;
#pragma unroll
  for (int i = 0; i < HELD; i++) {
    held[i] = load4(x, 4 * (i * THREADS + threadIdx.x), N, -infinity);
    m = fmaxf(fmaxf(fmaxf(m, held[i].x), held[i].y), fmaxf(held[i].z, held[i].w));
  }
  for (int away = 16; away > 0; away /= 2) m = fmaxf(m, __shfl_xor_sync(ALL, m, away));
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = m;
  __syncthreads();  // every warp's maximum is there
  for (int w = 0; w < WARPS; w++) m = fmaxf(m, maxima[w]);
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < HELD; i++) {
    held[i] = make_float4(held[i].x - m, held[i].y - m, held[i].z - m, held[i].w - m);
    total += (expf(held[i].x) + expf(held[i].y)) + (expf(held[i].z) + expf(held[i].w));
  }
  const float log_total = logf(block_sum(total, sums));
#pragma unroll
  for (int i = 0; i < HELD; i++)
    store4(y, 4 * (i * THREADS + threadIdx.x), N,
           make_float4(held[i].x - log_total, held[i].y - log_total, held[i].z - log_total, held[i].w - log_total));
}

extern "C" __global__ void __launch_bounds__(THREADS)
    log_softmax_vjp_05_registers(float* dx, const float* dy, const float* y, int R, int N) {
  __shared__ float sums[WARPS];
  dy += (size_t)blockIdx.x * N;
  y += (size_t)blockIdx.x * N;
  dx += (size_t)blockIdx.x * N;
  float4 p[HELD], d[HELD];
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < HELD; i++) {
    const int j = 4 * (i * THREADS + threadIdx.x);
    d[i] = load4(dy, j, N, 0.0f);
    p[i] = load4(y, j, N, 0.0f);
    total += (d[i].x + d[i].y) + (d[i].z + d[i].w);
  }
  total = block_sum(total, sums);
#pragma unroll
  for (int i = 0; i < HELD; i++)
    store4(dx, 4 * (i * THREADS + threadIdx.x), N,
           make_float4(d[i].x - expf(p[i].x) * total, d[i].y - expf(p[i].y) * total, d[i].z - expf(p[i].z) * total,
                       d[i].w - expf(p[i].w) * total));
}
