// rotary_embedding 01, thread per pair: pair j of a row at position p is turned by the angle (p + offset) base^(-j / H).
//
//     a' = a cos - b sin,   b' = a sin + b cos      the pairs are (j, j + H), or (2 j, 2 j + 1) where interleaved
//
// The way back turns by the same angle the other way: direction is 1 or -1. Angles, cosines and sines are made in float64 and
// rounded once: far out, float32 has no digits left for what is beyond a whole turn. rate = -log(base) / H.
// x, y: R rows of 2 H numbers; row r stands at position r % T.

extern "C" __global__ void rotary_embedding_01_thread_per_pair(float* y, const float* x, double rate, double offset,
                                                               int interleaved, float direction, int R, int T, int H) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)R * H) return;
  const int row = i / H, j = i % H;
  const double angle = (offset + row % T) * exp(j * rate);
  const float c = cos(angle), s = direction * (float)sin(angle);
  const size_t first = (size_t)row * 2 * H + (interleaved ? 2 * j : j), second = first + (interleaved ? 1 : H);
  const float a = x[first], b = x[second];
  y[first] = a * c - b * s;
  y[second] = a * s + b * c;
}
