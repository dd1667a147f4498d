// philox 01, block per thread: random words as a function of (seed, stream, counter), four a thread; and masks for dropout.
//
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011): ten rounds of two products of 32 bits scramble the counter's 128 bits, here
// (low(c), high(c), low(stream), high(stream)) with c = counter + block modulo 2^64, under the key (low(seed), high(seed)).
// Threads share nothing, and the words are those of the kernels for the CPU. n: how many words or masks are wanted.

#include "philox.cuh"

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
