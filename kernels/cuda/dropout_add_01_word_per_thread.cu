// dropout_add 01, word per thread: y = residual + m x / (1 - p), and the mask m is drawn where it is needed, forward and back.
//
// m_i = 1 where word i of Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011) from the block draw[2] on is at most `last_kept`.
// The generator is a function of (seed, stream, counter), so no mask is stored and no state is kept: a thread makes the block of
// four words that its number's word is in. draw: seed, stream, counter; scale: 1 / (1 - p). A dropped NaN or infinity is 0.
//
// __fmul_rn and __fadd_rn keep the compiler from a fused multiply-add: the same bits as dropout and an addition.

#include "philox.cuh"

// m_i x scale, by word i.
__device__ float dropped(float x, int i, const unsigned long long* draw, unsigned last_kept, float scale) {
  const uint4 four = philox(draw[2] + i / 4, draw[1], draw[0]);
  const unsigned word = i % 4 == 0 ? four.x : i % 4 == 1 ? four.y : i % 4 == 2 ? four.z : four.w;
  return word <= last_kept ? __fmul_rn(x, scale) : 0.0f;
}

extern "C" __global__ void dropout_add_forward_01_word_per_thread(float* y, const float* x, const float* residual,
                                                                  const unsigned long long* draw, unsigned last_kept,
                                                                  float scale, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  y[i] = __fadd_rn(residual[i], dropped(x[i], i, draw, last_kept, scale));
}

extern "C" __global__ void dropout_add_vjp_01_word_per_thread(float* dx, const float* dy, const unsigned long long* draw,
                                                              unsigned last_kept, float scale, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  dx[i] = dropped(dy[i], i, draw, last_kept, scale);
}
