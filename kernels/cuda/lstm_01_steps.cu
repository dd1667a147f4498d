// lstm 01, steps: one launch a step of time; a thread for each unit of each sequence makes its four gates.
//
//     a_t = x_t W + b + h_{t-1} U,   i, f, o = sigma(a_i), sigma(a_f), sigma(a_o),   g = tanh a_g
//     c_t = f c_{t-1} + i g,   h_t = o tanh c_t
// back, with d = dy_t + dh, v = tanh c_t and e = dc + d o (1 - v^2):
//     da = [e g i (1 - i), e c_{t-1} f (1 - f), e i (1 - g^2), d v o (1 - o)],   dh = da U^T,   dc = e f
//
// (Hochreiter and Schmidhuber 1997.) x W is one product for all steps, which the launcher makes before; dx, dW, dU and db are
// products after. A launch ends when all its threads have, so the next one finds h_{t-1} (or da_{t+1}) complete: the launches are
// the barrier between steps, and U is read from memory again in each. Neighbouring threads are neighbouring units, so that they
// read neighbouring columns of U, or of its transpose on the way back.
//
// B sequences, H units; gates, da (B, 4H); u (H, 4H), transposed (4H, H); everything else (B, H). Sequence n ends at step ends[n]:
// from there on it rests, its state stays, and its output and da are 0.

__device__ float sigma(float a) { return 1.0f / (1.0f + expf(-a)); }

// gates: x_t W before, i, f, g, o afterwards; those of a sequence that rests are not read any more.
extern "C" __global__ void lstm_forward_01_steps(float* y, float* gates, float* h_new, float* c_new, const float* h,
                                                 const float* c, const float* u, const float* bias, const int* ends, int t, int B,
                                                 int H) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.y * blockDim.y + threadIdx.y;
  if (n >= B || j >= H) return;
  const size_t unit = (size_t)n * H + j;
  gates += (size_t)n * 4 * H + j;
  if (t >= ends[n]) {
    y[unit] = 0.0f;
    h_new[unit] = h[unit];
    c_new[unit] = c[unit];
    return;
  }
  float a[4] = {};
  for (int k = 0; k < H; k++) {
    const float before = h[(size_t)n * H + k];
    for (int gate = 0; gate < 4; gate++) a[gate] += before * u[(size_t)k * 4 * H + gate * H + j];
  }
  for (int gate = 0; gate < 4; gate++) a[gate] += gates[gate * H] + bias[gate * H + j];
  const float i = sigma(a[0]), f = sigma(a[1]), g = tanhf(a[2]), o = sigma(a[3]);
  gates[0] = i;
  gates[H] = f;
  gates[2 * H] = g;
  gates[3 * H] = o;
  c_new[unit] = f * c[unit] + i * g;
  y[unit] = h_new[unit] = o * tanhf(c_new[unit]);
}

// dh and dc come as what the steps behind gave them, apart from `later` U^T, where later is da of the step that was walked before.
extern "C" __global__ void lstm_vjp_01_steps(float* da, float* dh, float* dc, const float* later, const float* dy,
                                             const float* gates, const float* c, const float* c_new, const float* transposed,
                                             const int* ends, int t, int B, int H) {
  const int j = blockIdx.x * blockDim.x + threadIdx.x, n = blockIdx.y * blockDim.y + threadIdx.y;
  if (n >= B || j >= H) return;
  const size_t unit = (size_t)n * H + j;
  float d = dh[unit];
  for (int k = 0; k < 4 * H; k++) d += later[(size_t)n * 4 * H + k] * transposed[(size_t)k * H + j];
  da += (size_t)n * 4 * H + j;
  gates += (size_t)n * 4 * H + j;
  if (t >= ends[n]) {
    for (int gate = 0; gate < 4; gate++) da[gate * H] = 0.0f;
    dh[unit] = d;
    return;
  }
  d += dy[unit];
  const float i = gates[0], f = gates[H], g = gates[2 * H], o = gates[3 * H], v = tanhf(c_new[unit]);
  const float e = dc[unit] + d * o * (1.0f - v * v);
  da[0] = e * g * i * (1.0f - i);
  da[H] = e * c[unit] * f * (1.0f - f);
  da[2 * H] = e * i * (1.0f - g * g);
  da[3 * H] = d * v * o * (1.0f - o);
  dh[unit] = 0.0f;
  dc[unit] = e * f;
}
