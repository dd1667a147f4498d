// Who sees whom in attention, for kernels that take a mask: query i stands at i + S - T and sees the keys from `before` places
// before it to `after` places after it whose mask is not 0. H query heads, G key heads, of which H is a multiple; T queries, S
// keys.
#pragma once

constexpr float LOWEST = -3.402823466e+38f;  // the most negative float: below it lies only -infinity
constexpr unsigned ALL = 0xffffffffu;

struct Problem {
  const unsigned char* mask;
  long long mask_b, mask_h, mask_t, mask_s;
  int H, G, T, S, D, before, after;
  float scale;

  __device__ const unsigned char* mask_of(int head) const { return mask + head / H * mask_b + head % H * mask_h; }
  __device__ int key_head(int head) const { return head / H * G + head % H / (H / G); }
  __device__ bool seen(const unsigned char* mask, int i, int j) const {
    const int ahead = j - (i + S - T);
    return i < T && j < S && ahead >= -before && ahead <= after && mask[i * mask_t + j * mask_s];
  }
};

__device__ float infinity() { return __int_as_float(0x7f800000); }
