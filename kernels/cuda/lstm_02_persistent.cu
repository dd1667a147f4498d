// lstm 02, persistent: one launch for all steps; a block keeps U in shared memory and walks its 4 sequences through time alone.
//
// Rung 01 reads U from memory at every step. Here it is read once for each block, and h, c and the gates of a step stay in shared
// memory too, so that a barrier of the block stands between steps and no block waits for another. The price: U must fit beside
// them (the launcher gives larger ones to rung 01), and there are only as many blocks as quarters of the batch. A number of U
// that a thread has read is used for all 4 sequences. On the way back da U^T runs along rows of U, which are one number longer
// than 4 H in shared memory: neighbouring threads then read from different banks.
//
// The mathematics is rung 01's. T steps, B sequences, H units; states, cells: T + 1 times (B, H) in the order of time; step t goes
// from entry t to entry t + 1, or in reverse from t + 1 to t.

constexpr int ROWS = 4, THREADS = 256;

__device__ float sigma(float a) { return 1.0f / (1.0f + expf(-a)); }

// gates (T, B, 4H): x W before, i, f, g, o afterwards, and anything where a sequence rests.
// Shared: U (H, 4H), a (ROWS, 4H), h and c (ROWS, H).
extern "C" __global__ void __launch_bounds__(THREADS)
    lstm_forward_02_persistent(float* ys, float* gates, float* states, float* cells, const float* u, const float* bias,
                               const int* ends, int T, int B, int H, int reverse) {
  extern __shared__ float memory[];
  const int first = blockIdx.x * ROWS, rows = min(ROWS, B - first), width = 4 * H;
  float* const weights = memory;
  float* const a = weights + H * width;
  float* const h = a + ROWS * width;
  float* const c = h + ROWS * H;
  const size_t begin = ((size_t)(reverse ? T : 0) * B + first) * H;
  for (int i = threadIdx.x; i < H * width; i += THREADS) weights[i] = u[i];
  for (int i = threadIdx.x; i < ROWS * H; i += THREADS) {
    h[i] = i < rows * H ? states[begin + i] : 0.0f;
    c[i] = i < rows * H ? cells[begin + i] : 0.0f;
  }
  __syncthreads();  // U and the first state are there
  for (int s = 0; s < T; s++) {
    const int t = reverse ? T - 1 - s : s;
    for (int column = threadIdx.x; column < width; column += THREADS) {
      float sums[ROWS] = {};
      for (int k = 0; k < H; k++)
        for (int r = 0; r < ROWS; r++) sums[r] += h[r * H + k] * weights[k * width + column];
      for (int r = 0; r < rows; r++) {
        float* gate = gates + ((size_t)t * B + first + r) * width + column;
        const float v = sums[r] + (*gate + bias[column]);
        *gate = a[r * width + column] = column / H == 2 ? tanhf(v) : sigma(v);
      }
    }
    __syncthreads();  // all gates are there, and nobody reads the old h any more
    const size_t out = ((size_t)t * B + first) * H, next = ((size_t)(reverse ? t : t + 1) * B + first) * H;
    for (int i = threadIdx.x; i < rows * H; i += THREADS) {
      const float* of_row = a + i / H * width + i % H;
      const bool runs = t < ends[first + i / H];
      if (runs) {
        c[i] = of_row[H] * c[i] + of_row[0] * of_row[2 * H];
        h[i] = of_row[3 * H] * tanhf(c[i]);
      }
      ys[out + i] = runs ? h[i] : 0.0f;
      states[next + i] = h[i];
      cells[next + i] = c[i];
    }
    __syncthreads();  // the new h is there
  }
}

// Shared: U (H, 4H + 1), da of a step (ROWS, 4H), dh and dc (ROWS, H), whose every number belongs to one thread.
extern "C" __global__ void __launch_bounds__(THREADS)
    lstm_vjp_02_persistent(float* da, float* dh, float* dc, const float* dys, const float* gates, const float* cells,
                           const float* u, const int* ends, int T, int B, int H, int reverse) {
  extern __shared__ float memory[];
  const int first = blockIdx.x * ROWS, rows = min(ROWS, B - first), width = 4 * H, pitch = width + 1;
  float* const weights = memory;
  float* const a = weights + H * pitch;
  float* const of_h = a + ROWS * width;
  float* const of_c = of_h + ROWS * H;
  for (int i = threadIdx.x; i < H * width; i += THREADS) weights[i / width * pitch + i % width] = u[i];
  for (int i = threadIdx.x; i < rows * H; i += THREADS) {
    of_h[i] = dh[(size_t)first * H + i];
    of_c[i] = dc[(size_t)first * H + i];
  }
  for (int s = 0; s < T; s++) {
    const int t = reverse ? s : T - 1 - s;
    const size_t here = ((size_t)t * B + first) * H, after = here + (size_t)B * H;
    for (int i = threadIdx.x; i < rows * H; i += THREADS) {
      float* to = a + i / H * width + i % H;
      if (t < ends[first + i / H]) {
        const float* from = gates + 4 * here + i / H * width + i % H;
        const float g_i = from[0], g_f = from[H], g_g = from[2 * H], g_o = from[3 * H];
        const float v = tanhf(cells[(reverse ? here : after) + i]), before = cells[(reverse ? after : here) + i];
        const float d = of_h[i] + dys[here + i], e = of_c[i] + d * g_o * (1.0f - v * v);
        to[0] = e * g_g * g_i * (1.0f - g_i);
        to[H] = e * before * g_f * (1.0f - g_f);
        to[2 * H] = e * g_i * (1.0f - g_g * g_g);
        to[3 * H] = d * v * g_o * (1.0f - g_o);
        of_h[i] = 0.0f;
        of_c[i] = e * g_f;
      } else {
        for (int gate = 0; gate < 4; gate++) to[gate * H] = 0.0f;
      }
      for (int gate = 0; gate < 4; gate++) da[4 * here + i / H * width + i % H + gate * H] = to[gate * H];
    }
    __syncthreads();  // da of all units is there, and before the first step U
    for (int i = threadIdx.x; i < rows * H; i += THREADS) {
      float sum = of_h[i];
      for (int k = 0; k < width; k++) sum += a[i / H * width + k] * weights[i % H * pitch + k];
      of_h[i] = sum;
    }
    __syncthreads();  // nobody reads this da any more
  }
  for (int i = threadIdx.x; i < rows * H; i += THREADS) {
    dh[(size_t)first * H + i] = of_h[i];
    dc[(size_t)first * H + i] = of_c[i];
  }
}
