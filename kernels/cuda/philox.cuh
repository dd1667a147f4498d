// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011): four random words as a function of counter, stream and seed.
//
// Ten rounds of two products of 32 bits scramble the 128 bits (counter, stream) under the key seed, low words first.
#pragma once

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
