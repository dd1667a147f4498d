// rotary_embedding 02, tables: cosines and sines are made once for each position and pair, not once for each row and pair.
//
// All heads and sequences, and the way back, read the same tables (T, H), so the arithmetic in float64, which most GPUs have little
// of, is done once. Then a thread turns one pair. The mathematics is rung 01's.
// x, y: R rows of 2 H numbers; row r stands at position r % T.

extern "C" __global__ void rotary_embedding_02_make_tables(float* cosines, float* sines, double rate, double offset, int T, int H) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)T * H) return;
  const double angle = (offset + i / H) * exp((int)(i % H) * rate);
  cosines[i] = cos(angle);
  sines[i] = sin(angle);
}

extern "C" __global__ void rotary_embedding_02_tables(float* y, const float* x, const float* cosines, const float* sines,
                                                      int interleaved, float direction, int R, int T, int H) {
  const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (size_t)R * H) return;
  const int row = i / H, j = i % H;
  const size_t angle = (size_t)(row % T) * H + j;
  const float c = cosines[angle], s = direction * sines[angle];
  const size_t first = (size_t)row * 2 * H + (interleaved ? 2 * j : j), second = first + (interleaved ? 1 : H);
  const float a = x[first], b = x[second];
  y[first] = a * c - b * s;
  y[second] = a * s + b * c;
}
