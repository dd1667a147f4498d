// dropout_add 02, block per thread: a thread uses all four words of its block, for a float4; a quarter of the generator's work.
//
// The last n % 4 numbers are read and written one by one, with the first words of their block. The mathematics is rung 01's.

#include "philox.cuh"

__device__ float dropped(float x, unsigned word, unsigned last_kept, float scale) {
  return word <= last_kept ? __fmul_rn(x, scale) : 0.0f;
}

extern "C" __global__ void dropout_add_forward_02_block_per_thread(float* y, const float* x, const float* residual,
                                                                   const unsigned long long* draw, unsigned last_kept,
                                                                   float scale, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const uint4 four = philox(draw[2] + i / 4, draw[1], draw[0]);
  if (i + 4 <= n) {
    const float4 v = *reinterpret_cast<const float4*>(x + i), r = *reinterpret_cast<const float4*>(residual + i);
    *reinterpret_cast<float4*>(y + i) = make_float4(
        __fadd_rn(r.x, dropped(v.x, four.x, last_kept, scale)), __fadd_rn(r.y, dropped(v.y, four.y, last_kept, scale)),
        __fadd_rn(r.z, dropped(v.z, four.z, last_kept, scale)), __fadd_rn(r.w, dropped(v.w, four.w, last_kept, scale)));
    return;
  }
  const unsigned words[3] = {four.x, four.y, four.z};
  for (int j = i; j < n; j++) y[j] = __fadd_rn(residual[j], dropped(x[j], words[j - i], last_kept, scale));
}

extern "C" __global__ void dropout_add_vjp_02_block_per_thread(float* dx, const float* dy, const unsigned long long* draw,
                                                               unsigned last_kept, float scale, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  const uint4 four = philox(draw[2] + i / 4, draw[1], draw[0]);
  if (i + 4 <= n) {
    const float4 d = *reinterpret_cast<const float4*>(dy + i);
    *reinterpret_cast<float4*>(dx + i) =
        make_float4(dropped(d.x, four.x, last_kept, scale), dropped(d.y, four.y, last_kept, scale),
                    dropped(d.z, four.z, last_kept, scale), dropped(d.w, four.w, last_kept, scale));
    return;
  }
  const unsigned words[3] = {four.x, four.y, four.z};
  for (int j = i; j < n; j++) dx[j] = dropped(dy[j], words[j - i], last_kept, scale);
}
