// dropout_add 01, word per thread: y = residual + m x / (1 - p), and the mask m is drawn where it is needed, forward and back.
//
// m_i = 1 where word i of Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011) from the block draw[2] on is at most `last_kept`.
// The generator is a function of (seed, stream, counter), so no mask is stored and no state is kept: a thread makes the block of
// four words that its number's word is in. draw: seed, stream, counter; scale: 1 / (1 - p). A dropped NaN or infinity is 0.
//
// __fmul_rn and __fadd_rn keep the compiler from a fused multiply-add: the same bits as dropout and an addition.

__device__ uint4 philox(unsigned long long counter, unsigned long long stream, unsigned long long seed) {
  unsigned a = counter, b = counter >> 32, c = stream, d = stream >> 32, k0 = seed, k1 = seed >> 32;
  for (int round = 0; round < 10; round++) {
    const unsigned high0 = __umulhi(0xD2511F53u, a), low0 = 0xD2511F53u * a;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c), low1 = 0xCD9E8D57u * c;
    a = high1 ^ b ^ k0;
    b = low1;
    c = high0 ^ d ^ k1;
    d = low0;
    k0 += 0x9E3779B9u;  // the golden ratio and sqrt(3) - 1, as fractions of 2^32
    k1 += 0xBB67AE85u;
  }
  return make_uint4(a, b, c, d);
}

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
