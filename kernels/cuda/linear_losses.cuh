// What the ladder of linear_cross_entropy keeps of a row of logits z, of which it has seen n: the largest, m, and with it
//     total = sum e^(z - m),   below = sum (m - z);   a larger m' makes of them total e^(m - m') and below + n (m' - m)
// (the first is of Milakov and Gimelshein, 2018); and how the slices of the vocabulary become a row's loss.
#pragma once

constexpr float LOWEST = -3.402823466e+38f;
constexpr unsigned ALL = 0xffffffffu;
constexpr int IGNORED = -1;
constexpr int ROWS = 256;  // threads of a block where each has a row, or some of them

struct Kept {
  float m, total, below;
  int n;
};

__device__ inline Kept raised(Kept s, float larger) {
  return {larger, s.total * expf(s.m - larger), s.n > 0 ? s.below + s.n * (larger - s.m) : 0.0f, s.n};
}

// sum q_k (m - z_k). What weighs nothing is left out: a class ruled out by a bias of -infinity would make 0 * infinity.
__device__ inline float deserved(float of_target, float of_all, float smoothing, int V) {
  return (smoothing < 1.0f ? (1.0f - smoothing) * of_target : 0.0f) + (smoothing > 0.0f ? smoothing / V * of_all : 0.0f);
}

// The slices of a row become one, in their order, and its loss.
__device__ inline void row_of_slices(int row, float* losses, float* maxima, float* totals, const float* maxima_of,
                                     const float* totals_of, const float* belows_of, const float* of_targets, const int* targets,
                                     float smoothing, int R, int V, int slice) {
  Kept s = {LOWEST, 0.0f, 0.0f, 0};
  for (int start = 0; start < V; start += slice) {
    const size_t at = (size_t)(start / slice) * R + row;
    const float larger = fmaxf(s.m, maxima_of[at]);
    const Kept more = raised({maxima_of[at], totals_of[at], belows_of[at], min(slice, V - start)}, larger);
    s = raised(s, larger);
    s = {larger, s.total + more.total, s.below + more.below, s.n + more.n};
  }
  maxima[row] = s.m;
  totals[row] = s.total;
  losses[row] = targets[row] == IGNORED ? 0.0f : logf(s.total) + deserved(s.m - of_targets[row], s.below, smoothing, V);
}
