// philox 01, block per thread: random words as a function of (seed, stream, counter), four a thread; and masks for dropout.
//
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011): ten rounds of two products of 32 bits scramble the counter's 128 bits, here
// (low(c), high(c), low(stream), high(stream)) with c = counter + block modulo 2^64, under the key (low(seed), high(seed)).
// Threads share nothing, and the words are those of the kernels for the CPU. n: how many words or masks are wanted.

__device__ uint4 philox(unsigned long long counter, unsigned long long stream, unsigned long long seed) {
  unsigned a = counter, b = counter >> 32, c = stream, d = stream >> 32, k0 = seed, k1 = seed >> 32;
  for (int round = 0; round < 10; round++) {
    const unsigned high0 = __umulhi(0xD2511F53u, a), low0 = 0xD2511F53u * a;
    const unsigned high1 = __umulhi(0xCD9E8D57u, c), low1 = 0xCD9E8D57u * c;
    a = high1 ^ b ^ k0;
    b = low1;
    c = high0 ^ d ^ k1;
    d = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return make_uint4(a, b, c, d);
}

extern "C" __global__ void philox_words_01_block_per_thread(unsigned* words, unsigned long long seed, unsigned long long stream,
                                                            unsigned long long counter, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  const uint4 four = philox(counter + i / 4, stream, seed);
  const unsigned all[4] = {four.x, four.y, four.z, four.w};
  for (int k = 0; k < 4 && i + k < n; k++) words[i + k] = all[k];
}

// keep: True where a word is below `limit`, which is up to 2^32.
extern "C" __global__ void bernoulli_mask_01_block_per_thread(bool* keep, unsigned long long seed, unsigned long long stream,
                                                              unsigned long long counter, unsigned long long limit, int n) {
  const int i = 4 * (blockIdx.x * blockDim.x + threadIdx.x);
  const uint4 four = philox(counter + i / 4, stream, seed);
  const unsigned all[4] = {four.x, four.y, four.z, four.w};
  for (int k = 0; k < 4 && i + k < n; k++) keep[i + k] = all[k] < limit;
}
